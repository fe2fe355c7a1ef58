"""MNN: its own converter, then its Python API.

python examples/python/with_mnn.py explained.onnx sample_models/photos/cat.png --class 282 --class 285
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import common
import numpy as np
from MNN import expr, nn

NAMES = ["logits", "xcam_classes", "xcam_scores", "xcam_map", "xcam_heatmap"]


def run(model: str, image: np.ndarray, classes: np.ndarray) -> common.Outputs:
    """MNN has no 64-bit integers: the converter makes int32 of them, in the file and at its inputs and outputs."""
    with tempfile.TemporaryDirectory() as folder:
        converted = str(Path(folder) / "model.mnn")
        convert = [str(Path(sys.executable).with_name("mnnconvert")), "-f", "ONNX", "--bizCode", "example"]
        convert += ["--modelFile", str(Path(model).resolve()), "--MNNModel", converted]
        subprocess.run(convert, check=True, capture_output=True, cwd=folder)  # it leaves files where it runs
        module = nn.load_module_from_file(converted, ["image", "xcam_class"], NAMES)
        inputs = [
            expr.const(image.ravel().tolist(), [*image.shape], expr.NCHW, expr.float),
            expr.const(classes.ravel().tolist(), [*classes.shape], expr.NCHW, expr.int),
        ]
        return {name: np.array(result.read()) for name, result in zip(NAMES, module.forward(inputs), strict=True)}


if __name__ == "__main__":
    common.main(run)
