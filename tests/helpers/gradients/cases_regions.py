"""Pooling regions of feature maps."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import Row, row

SIZES = {"N": 2, "C": 3, "H": 6, "W": 5}
INPUTS = "float[N,C,H,W] x, float[R,4] b, int64[R] i"
BOXES = np.array([
    [0.7, 1.1, 7.3, 8.9],  # inside
    [-6.2, -5.1, 2.3, 3.7],  # partly outside, on each side
    [4.1, 5.3, 16.9, 19.2],
    [3.3, 2.2, 3.5, 2.3],  # smaller than a pixel
    [5.2, 6.4, 3.1, 2.9],  # malformed
    [2.4, 2.6, 2.4, 9.0],  # without a width
])  # fmt: skip
REGIONS = {"b": BOXES, "i": np.array([1, 0, 1, 0, 1, 0])}
NONE = {"b": np.zeros((0, 4)), "i": np.zeros(0, np.int64)}


def align(mode: str, ratio: int, transformation: str = "", scale: float = 0.5, bins: tuple[int, int] = (3, 2)) -> str:
    said = f', coordinate_transformation_mode = "{transformation}"' if transformation else ""
    sizes = f"output_height = {bins[0]}, output_width = {bins[1]}"
    return f'y = RoiAlign<mode = "{mode}", sampling_ratio = {ratio}, spatial_scale = {scale}, {sizes}{said}>(x, b, i)'


ROWS: list[Row] = [
    *(row("RoiAlign", INPUTS, align(mode, ratio, how), opsets=(16, 21), given=REGIONS, wrt=("x",), R=len(BOXES), **SIZES)
      for mode in ("avg", "max") for ratio in (0, 1, 2, 3) for how in ("half_pixel", "output_half_pixel", "")),
    # Without the attribute, coordinates are those of output_half_pixel before opset 16.
    *(row("RoiAlign", INPUTS, align(mode, ratio), opsets=(11, 13, 15), given=REGIONS, wrt=("x",), oracle="runtime", R=len(BOXES), **SIZES)
      for mode in ("avg", "max") for ratio in (0, 2)),
    row("RoiAlign", INPUTS, "y = RoiAlign(x, b, i)", opsets=(16,), given=REGIONS, wrt=("x",), R=len(BOXES), **SIZES),
    # One image; one bin; more bins than pixels; no region.
    *(row("RoiAlign", "float[1,C,H,W] x, float[R,4] b, int64[R] i", align(mode, 2, bins=bins), opsets=(16,), wrt=("x",),
          given={"b": BOXES, "i": np.zeros(len(BOXES), np.int64)}, R=len(BOXES), **SIZES) for mode in ("avg", "max") for bins in ((1, 1), (9, 11))),
    row("RoiAlign", INPUTS, align("avg", 2), opsets=(16,), given=NONE, wrt=("x",), R=0, **SIZES),
]  # fmt: skip
