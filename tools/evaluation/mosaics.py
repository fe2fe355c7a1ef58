"""Write mosaics of photos of one object each, and the boxes that a detector tells in them, for `onnx-xcam evaluate`.

    python -m tools.evaluation.mosaics FACES MODEL.onnx FOLDER --preprocess preprocess.json
    onnx-xcam evaluate MODEL.onnx FOLDER/photos --truth FOLDER/boxes.json --preprocess preprocess.json --metrics truth

Three photos of FACES lie in corners of each mosaic, in random sizes, on an even background. The true boxes are not
known; FOLDER/boxes.json has those that the detector itself keeps, without the worse of two that overlap by half, so
that what is measured is whether the map of an object stays with that object.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from onnx_xcam import Explainer
from onnx_xcam.evaluation.objects import LEAST_OVERLAP
from onnx_xcam.explainer.places import overlap
from onnx_xcam.images.find import find_images
from onnx_xcam.images.read import read_image
from onnx_xcam.images.write import write_image
from tools.common import command_line

SEED = 5
MOST = 20
"""So many objects of a mosaic are asked for."""


def mosaic(parts: list[np.ndarray], random: np.random.Generator, side: int) -> np.ndarray:
    """Three of the photos in corners of a square, uint8 [side,side,3]."""
    canvas = np.full((side, side, 3), random.integers(60, 191, 3), np.uint8)
    half = side // 2
    corners = random.permutation(4)[:3]
    for corner, index in zip(corners, random.permutation(len(parts))[:3], strict=False):
        height, width = parts[index].shape[:2]
        scale = int(random.integers(half * 2 // 5, half)) / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(parts[index], size, interpolation=cv2.INTER_AREA)
        top = half * int(corner // 2) + int(random.integers(0, half - size[1] + 1))
        left = half * int(corner % 2) + int(random.integers(0, half - size[0] + 1))
        canvas[top : top + size[1], left : left + size[0]] = small
    return canvas


def told(explainer: Explainer, image: np.ndarray) -> list[dict[str, object]]:
    """Class and box of each object that the detector keeps, the best first, as `evaluate --truth` reads them."""
    explanation = explainer.explain(image, top=MOST).without_missing()
    assert explanation.boxes is not None
    kept: list[tuple[int, np.ndarray]] = []
    for class_id, box in zip(explanation.classes[0].tolist(), explanation.boxes[0].astype(np.float64), strict=True):
        inside = np.clip(box, 0, [image.shape[1], image.shape[0]] * 2)
        others = np.array([one for _, one in kept]).reshape(-1, 4)
        if not (overlap(inside, others) >= LEAST_OVERLAP).any():
            kept.append((class_id, inside))
    return [{"class": class_id, "box": box.round(2).tolist()} for class_id, box in kept]


def main() -> None:
    """Parse the command line and write."""
    parser = command_line.parser("tools.evaluation.mosaics", __doc__)
    parser.add_argument("parts", type=Path, help="folder of photos, each of one object")
    parser.add_argument("model", type=Path, help="the detector")
    parser.add_argument("folder", type=Path, help="folder to write to")
    parser.add_argument("--count", type=int, default=20, help="number of mosaics (default: 20)")
    parser.add_argument("--side", type=int, default=320, help="height and width of a mosaic (default: 320)")
    parser.add_argument("--preprocess", help="the preprocessing, as for onnx-xcam")
    options = parser.parse_args()
    parts = [read_image(path) for path in find_images([options.parts])]
    explainer = Explainer(options.model, preprocess=options.preprocess)
    random, boxes = np.random.default_rng(SEED), {}
    (options.folder / "photos").mkdir(parents=True, exist_ok=True)
    for number in range(options.count):
        image = mosaic(parts, random, options.side)
        name = f"{number:02}.png"
        write_image(options.folder / "photos" / name, image)
        boxes[name] = told(explainer, image)
    (options.folder / "boxes.json").write_text(f"{json.dumps(boxes, indent=1)}\n", encoding="utf-8")
    print(f"written to {options.folder}: {options.count} mosaics, {sum(map(len, boxes.values()))} boxes")


if __name__ == "__main__":
    main()
