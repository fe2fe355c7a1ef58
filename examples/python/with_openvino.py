"""OpenVINO on the CPU.

python examples/python/with_openvino.py explained.onnx sample_models/photos/cat.png --class 282 --class 285
"""

import common
import numpy as np
import openvino


def run(model: str, image: np.ndarray, classes: np.ndarray) -> common.Outputs:
    """OpenVINO makes a constant of an input that has a default value, so the classes are a required input."""
    core = openvino.Core()
    loaded = core.read_model(model)
    # The file's batch is a symbol. OpenVINO takes that too, but computes int8 models with it wrong (2026.4).
    loaded.reshape({"image": list(image.shape), "xcam_class": list(classes.shape)})
    # On processors with bfloat16 OpenVINO computes in it, unless it is told not to.
    compiled = core.compile_model(loaded, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = compiled({"image": image, "xcam_class": classes})
    return {name: results[name] for name in ("logits", "xcam_classes", "xcam_scores", "xcam_map", "xcam_heatmap")}


if __name__ == "__main__":
    common.main(run)
