"""Compare the explanations of the int8 sample model with those of the float one, on real photos.

    python -m tools.formats.int8_twin PHOTOS_DIR... --layer /_blocks.10/Add_output_0
    python -m tools.formats.int8_twin --picture docs/images/int8.png

The shipped photos come first, then those of the folders named, by a pattern if there are others in it. Printed are how
often both models name the same top class, and the cosine similarity of their maps for the float model's top class. Exit
status 1 if the top class is the same in fewer than 95 % of the photos, or the mean cosine at the default layer is below
0.95. The picture shows the float model's maps above the int8 model's.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

import onnx_xcam
from onnx_xcam.errors import XcamWarning
from onnx_xcam.images.write import write_image
from tools.common import command_line
from tools.common.folders import PHOTOS, SAMPLE_MODELS

FLOAT, INT8 = (SAMPLE_MODELS / f"efficientnet_lite0{ending}.onnx" for ending in ("", "_int8"))
SAME_CLASS, COSINE = 0.95, 0.95
HEIGHT, GAP = 160, 6
"""Pixels of a photo in the picture, and between two."""


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between two maps; 1 if both are zero everywhere."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not lengths:
        return float(not a.any() and not b.any())
    return float((a * b).sum() / lengths)


def compare(photos: Sequence[Path], layer: str) -> tuple[list[bool], list[float]]:
    """For each photo whether the top class is the same, and the cosine of the maps of the float model's top class."""
    plain, twin = (onnx_xcam.Explainer(path, layers=layer) for path in (FLOAT, INT8))
    same, cosines = [], []
    for photo in photos:
        ours = plain.explain(photo)
        theirs = twin.explain(photo, classes=[int(ours.classes[0, 0]), -1])
        same.append(bool(theirs.classes[0, 1] == ours.classes[0, 0]))
        cosines.append(cosine(ours.maps[0, 0].astype(np.float64), theirs.maps[0, 0].astype(np.float64)))
    return same, cosines


def picture(photos: Sequence[Path]) -> np.ndarray:
    """The photos side by side, uint8 RGB: above with the maps of the float model, below with the int8 model's."""
    rows = []
    plain, twin = (onnx_xcam.Explainer(path) for path in (FLOAT, INT8))
    for explainer in (plain, twin):
        cells = []
        for photo in photos:
            top = int(plain.explain(photo).classes[0, 0])
            drawn = explainer.explain(photo, classes=[top]).overlay(0, 0)
            width = round(drawn.shape[1] * HEIGHT / drawn.shape[0])
            cells += [cv2.resize(drawn, (width, HEIGHT), interpolation=cv2.INTER_AREA), _gap(HEIGHT, GAP)]
        rows += [np.concatenate(cells[:-1], axis=1)]
    return np.concatenate([rows[0], _gap(GAP, rows[0].shape[1]), rows[1]], axis=0)


def _gap(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def main() -> None:
    """Compare, print, draw; exit status 1 if the models differ more than they may."""
    parser = command_line.parser("tools.formats.int8_twin", __doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="more photos")
    parser.add_argument("--pattern", default="*", help="of the photos' names in these folders (default: all)")
    parser.add_argument("--layer", action="append", default=[], help="compare at this layer, too")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the shipped photos")
    options = parser.parse_args()
    photos = sorted((PHOTOS).iterdir())
    if options.picture:
        write_image(options.picture, picture(photos))
    photos += [photo for folder in options.folders for photo in sorted(folder.glob(options.pattern))]
    good = True
    for layer in ("auto", *options.layer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", XcamWarning)  # maps that are zero are compared, too
            same, cosines = compare(photos, layer)
        print(f"{layer}: same top class in {sum(same)} of {len(same)} photos, cosine of the maps", end=" ")
        print(f"{np.mean(cosines):.4f} (mean), {np.median(cosines):.4f} (median), {min(cosines):.4f} (smallest)")
        if layer == "auto":
            good = np.mean(same) >= SAME_CLASS and np.mean(cosines) >= COSINE
            for photo, equal, value in zip(photos, same, cosines, strict=True):
                print(f"  {photo.name}: {value:.4f}{'' if equal else ', another top class'}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
