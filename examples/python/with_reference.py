"""The onnx package's reference evaluator: the standard itself, in numpy, and no runtime at all.

python examples/python/with_reference.py explained.onnx sample_models/photos/cat.png --class 282 --class 285
"""

import common
import numpy as np
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


class GatherElements(OpRun):
    """What the evaluator's own (onnx 1.23) does only for one element per row, where a row is longer than 64."""

    def _run(self, data: np.ndarray, indices: np.ndarray, axis: int = 0) -> tuple[np.ndarray]:
        return (np.take_along_axis(data, indices, axis),)


def run(model: str, image: np.ndarray, classes: np.ndarray) -> common.Outputs:
    """For one class the evaluator needs no help: `ReferenceEvaluator(model)`."""
    evaluator = ReferenceEvaluator(model, new_ops=[GatherElements])
    return dict(zip(evaluator.output_names, evaluator.run(None, {"image": image, "xcam_class": classes}), strict=True))


if __name__ == "__main__":
    common.main(run)
