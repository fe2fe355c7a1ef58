"""Reading images between their pixels."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import NEWEST, Row, ints, row

SIZES = {"H": 4, "W": 5, "P": 3, "Q": 2}
INPUTS = "float[N,2,H,W] x, float[N,P,Q,2] g"
VOLUME = "float[N,2,3,H,W] x, float[N,P,2,1,3] g"
WIDE = {"g": (-1.9, 1.9)}
"""Positions inside and outside of the image."""


def sample(mode: str, padding: str, aligned: int) -> str:
    return f'y = GridSample<mode = "{mode}", padding_mode = "{padding}", align_corners = {aligned}>(x, g)'


FORMS = [(padding, aligned) for padding in ("zeros", "border", "reflection") for aligned in (0, 1)]
ROWS: list[Row] = [
    *(row("GridSample", INPUTS, sample(mode, *form), opsets=opsets, domains=WIDE, **SIZES)
      for mode, opsets in (("bilinear", (16,)), ("linear", (20, 22, NEWEST)), ("bicubic", (16,)), ("cubic", (20, 22))) for form in FORMS),
    *(row("GridSample", INPUTS, sample("nearest", *form), opsets=(16, 20, 22), domains=WIDE, **SIZES) for form in FORMS),
    row("GridSample", INPUTS, "y = GridSample(x, g)", opsets=(16, 22), domains=WIDE, **SIZES),
    *(row("GridSample", VOLUME, sample(mode, *form), opsets=(20, 22), domains=WIDE, **SIZES) for mode in ("linear", "nearest") for form in FORMS),
    *(row("AffineGrid", f"float[N,{rank},{rank + 1}] t", ints("s", 2, 3, *size) + f"y = AffineGrid<align_corners = {aligned}>(t, s)", opsets=(20, NEWEST))
      for rank, size in ((2, (3, 4)), (3, (2, 3, 4))) for aligned in (0, 1)),
    row("AffineGrid", "float[N,2,3] t, int64[4] s", "y = AffineGrid(t, s)", given={"s": np.array([2, 5, 3, 4])}, opsets=(20,)),
    # A spatial transformer.
    row("GridSample", "float[N,2,H,W] x, float[N,2,3] t", "s = Shape(x) g = AffineGrid(t, s) y = GridSample(x, g)", domains={"t": (-0.8, 0.8)}, opsets=(20,), **SIZES),
    # One input alone; and an axis of a single pixel.
    *(row("GridSample", INPUTS, "y = GridSample(x, g)", wrt=(name,), domains=WIDE, **SIZES) for name in "xg"),
    *(row("GridSample", "float[N,2,A,W] x, float[N,P,Q,2] g", sample("bilinear", *form), opsets=(16,), domains=WIDE, A=1, **SIZES) for form in FORMS),
]  # fmt: skip
