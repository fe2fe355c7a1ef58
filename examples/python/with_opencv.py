"""OpenCV's own inference (5.0 or newer), nothing else installed.

python examples/python/with_opencv.py explained.onnx sample_models/photos/cat.png --class 282 --class 285
"""

import common
import cv2
import numpy as np


def run(model: str, image: np.ndarray, classes: np.ndarray) -> common.Outputs:
    """The classes go in as int64; OpenCV 4 has no such tensors, and its engine none of the operators either."""
    network = cv2.dnn.readNetFromONNX(model, engine=cv2.dnn.ENGINE_NEW)
    network.setInput(image, "image")
    network.setInput(classes, "xcam_class")
    names = ["logits", "xcam_classes", "xcam_scores", "xcam_map", "xcam_heatmap"]
    return dict(zip(names, network.forward(names), strict=True))


if __name__ == "__main__":
    common.main(run)
