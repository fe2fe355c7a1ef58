"""What the examples in this folder share: a photo in, numbers and a picture out. None of them needs onnx_xcam."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

Outputs = dict[str, np.ndarray]
Run = Callable[[str, np.ndarray, np.ndarray], Outputs]
"""A model's path, an image float32 [1,3,224,224] and classes int64 [1,K] -> the model's outputs by name."""


def read(path: str) -> tuple[np.ndarray, np.ndarray]:
    """A photo as EfficientNet-Lite0 wants it: the middle 87.5 %, 224 x 224, RGB, (x - 127) / 128.

    Returns:
        The picture, uint8 [224,224,3], and the same as the model's input, float32 [1,3,224,224].
    """
    bgr = cv2.imread(path)
    if bgr is None:
        raise SystemExit(f"{path} is not a picture that OpenCV can read.")
    side = round(0.875 * min(bgr.shape[:2]))
    top, left = (bgr.shape[0] - side) // 2, (bgr.shape[1] - side) // 2
    square = bgr[top : top + side, left : left + side]
    rgb = cv2.cvtColor(cv2.resize(square, (224, 224), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
    return rgb, ((rgb.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None].copy()


def overlay(rgb: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """`xcam_heatmap` of one class (0..1, as large as the picture) over the picture, BGR."""
    colours = cv2.applyColorMap((heatmap * 255).round().astype(np.uint8), cv2.COLORMAP_TURBO)
    return cv2.addWeighted(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), 0.5, colours, 0.5, 0)


def main(run: Run) -> None:
    """The command line of every example."""
    parser = argparse.ArgumentParser(description="Explain a photo with an instrumented model.")
    parser.add_argument("model", help='made with emit=("map", "heatmap"), class_input="required"')
    parser.add_argument("photo")
    parser.add_argument(
        "--class", dest="classes", type=int, action="append", help="-1 (default): the top class; repeatable"
    )
    parser.add_argument("-o", "--out", default="explained", help="start of the pictures' names (default: explained)")
    parser.add_argument("--arrays", metavar="FILE.npz", help="also all outputs as arrays")
    options = parser.parse_args()
    rgb, image = read(options.photo)
    outputs = run(options.model, image, np.array([options.classes or [-1]], np.int64))
    for k, (number, score) in enumerate(zip(outputs["xcam_classes"][0], outputs["xcam_scores"][0], strict=True)):
        file = f"{options.out}.{number}.png"
        cv2.imwrite(file, overlay(rgb, outputs["xcam_heatmap"][0, k]))
        print(json.dumps({"class": int(number), "score": round(float(score), 3), "picture": Path(file).name}))
    if options.arrays:
        np.savez(options.arrays, **outputs)
