"""Make JPEG photos of mixed sizes, to measure on: parts of the sample photos, varied.

    python -m tools.speed.photos FOLDER --count 240
    python -m tools.speed.photos FOLDER --count 1000 --sides 400 1100 --more FOLDER_OF_PHOTOS

They have 0.3 to 12 megapixels, or sides drawn between two numbers of pixels. The same call makes the same photos.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from onnx_xcam.images import find_images
from tools.common import command_line
from tools.common.folders import PHOTOS

SIZES = ((640, 480), (1024, 768), (1600, 1200), (2048, 1536), (3000, 2000), (4000, 3000), (480, 640), (1200, 1600))
"""Width and height, in turn, where no sides are asked for."""


def varied(original_bgr: np.ndarray, width: int, height: int, random: np.random.Generator) -> np.ndarray:
    """A part of a photo uint8 [H,W,3] as uint8 [height,width,3]: perhaps mirrored, brighter or darker, with noise."""
    rows, columns = (int(side * random.uniform(0.6, 1)) for side in original_bgr.shape[:2])
    top, left = (
        random.integers(0, side - part + 1) for side, part in zip(original_bgr.shape[:2], (rows, columns), strict=True)
    )
    part = original_bgr[top : top + rows, left : left + columns][:, :: random.choice((-1, 1))]
    part = cv2.resize(part, (width, height), interpolation=cv2.INTER_CUBIC) * random.uniform(0.8, 1.2)
    return np.clip(part + random.normal(0, 3, part.shape), 0, 255).astype(np.uint8)


def sizes(sides: tuple[int, int] | None, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Width and height of one photo after the other, without end."""
    if sides is None:
        yield from itertools.cycle(SIZES)
    while sides is not None:
        width, height = random.integers(*sides, 2).tolist()
        yield width, height


def main() -> None:
    """Read the command line, and write the photos."""
    parser = command_line.parser("tools.speed.photos", __doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--sides", type=int, nargs=2, metavar=("LOW", "HIGH"), help="instead of 0.3 to 12 megapixels")
    parser.add_argument("--more", type=Path, action="append", default=[], help="photos beside the shipped ones")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    originals = find_images([PHOTOS, *options.more])
    for n, (width, height) in zip(range(options.count), sizes(options.sides, random), strict=False):
        photo_bgr = varied(cv2.imread(str(originals[n % len(originals)])), width, height, random)
        cv2.imwrite(str(options.folder / f"{n:05}.jpg"), photo_bgr, [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(f"{options.count} photos out of {len(originals)}")


if __name__ == "__main__":
    main()
