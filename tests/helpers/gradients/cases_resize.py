"""Resizing."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import NEWEST, OLD, Row, floats, ints, row

X = "float[N,2,H,W] x"
SIZES = {"H": 4, "W": 5}
MODES = [
    *(f'mode = "nearest", nearest_mode = "{n}", coordinate_transformation_mode = "{c}"'
      for n in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") for c in ("half_pixel", "asymmetric", "align_corners")),
    *(f'mode = "linear", coordinate_transformation_mode = "{c}"'
      for c in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")),
    'mode = "cubic"',
    'mode = "cubic", cubic_coeff_a = -0.5, exclude_outside = 1',
]  # fmt: skip
COORDINATES = [
    *(f'mode = "cubic", coordinate_transformation_mode = "{c}"{e}'
      for c in ("asymmetric", "align_corners", "pytorch_half_pixel") for e in ("", ", exclude_outside = 1")),
    *(f'mode = "nearest", nearest_mode = "round_prefer_floor", coordinate_transformation_mode = "{c}"' for c in ("pytorch_half_pixel",)),
]  # fmt: skip
NEWER = [
    f'mode = "{mode}", coordinate_transformation_mode = "half_pixel_symmetric"'
    for mode in ("nearest", "linear", "cubic")
]
ANTIALIAS = [
    *(f'mode = "{mode}", antialias = 1{c}' for mode in ("linear", "cubic")
      for c in ("", ', coordinate_transformation_mode = "align_corners"', ", exclude_outside = 1")),
    'mode = "cubic", antialias = 1, cubic_coeff_a = -0.5',
]  # fmt: skip
UP, DOWN = (1.0, 1.0, 2.0, 1.6), (1.0, 1.0, 0.6, 0.5)
CROP = 'mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"'
EMPTY = "Constant<value = float[0] {}>() "
STATIC = ("static", "constant")


def resize(inputs: str, body: str, opsets: tuple[int, ...], **options: object) -> Row:
    return row("Resize", inputs, body, opsets=opsets, wrt=("x",), oracle="linear", **{**SIZES, **options})


def scaled(attributes: str, scales: tuple[float, ...], opsets: tuple[int, ...]) -> Row:
    """A Resize by constant scales."""
    return resize(X, f"roi = {EMPTY}{floats('scales', *scales)}y = Resize<{attributes}>(x, roi, scales)", opsets)


def sized(attributes: str, sizes: tuple[int, ...], opsets: tuple[int, ...]) -> Row:
    """A Resize to constant sizes."""
    head, middle = (f"roi = {EMPTY} scales = {EMPTY}", "roi, scales") if min(opsets) < 13 else ("", ",")
    return resize(X, f"{head}{ints('sizes', *sizes)}y = Resize<{attributes}>(x, {middle}, sizes)", opsets)


def region(name: str, *numbers: float) -> dict[str, np.ndarray]:
    return {name: np.array(numbers, np.float32)}


ROWS: list[Row] = [
    *(scaled(mode, scales, (OLD, 18)) for mode in MODES for scales in (UP, DOWN)),
    *(sized(mode, (2, 2, 7, 3), (OLD,)) for mode in MODES),
    *(sized(mode, (2, 2, 7, 3), (13, 18, NEWEST)) for mode in MODES[::3]),
    *(scaled(mode, scales, (OLD, NEWEST)) for mode in COORDINATES for scales in (UP, DOWN)),
    *(case for mode in ANTIALIAS for case in (scaled(mode, DOWN, (18, NEWEST)), sized(mode, (2, 2, 3, 3), (18,)))),
    *(scaled(mode, DOWN, (19, NEWEST)) for mode in NEWER),
    # Axes listed, from the end and out of order.
    resize(X, floats("s", 1.6, 2.0) + 'y = Resize<mode = "linear", axes = [-1, 2]>(x, , s)', (18, NEWEST)),
    resize(X, ints("s", 8, 9) + 'y = Resize<mode = "linear", axes = [3, -2]>(x, , , s)', (18, NEWEST)),
    # Scales and sizes that only the run knows.
    resize(f"{X}, float[4] s", f"roi = {EMPTY} y = Resize<mode = \"linear\">(x, roi, s)", (OLD, 17), given=region("s", *UP)),
    resize(f"{X}, int64[4] s", f"roi = {EMPTY} e = {EMPTY} y = Resize<mode = \"linear\">(x, roi, e, s)", (OLD, 17),
           given={"s": np.array([2, 2, 7, 3])}),
    # A crop, in part outside the input, with scales and with sizes; known, and known only at run time.
    resize(X, floats("roi", 0, 0, 0.2, -0.1, 1, 1, 0.9, 0.8) + floats("s", *UP) + f"y = Resize<{CROP}, extrapolation_value = 5.0>(x, roi, s)", (OLD, 18)),
    resize(X, floats("roi", 0, 0, 0.2, -0.1, 1, 1, 0.9, 0.8) + ints("s", 2, 2, 4, 3) + f"y = Resize<{CROP}>(x, roi, , s)", (13, 18), variants=STATIC),
    *(resize(X, floats("roi", 0, 0, 0.2, -0.1, 1, 1, 0.9, 0.8) + floats("s", *UP) + f'y = Resize<{CROP.replace("linear", mode)}>(x, roi, s)', (13, 18))
      for mode in ("nearest", "cubic")),
    resize(f"{X}, float[8] roi", floats("s", *UP) + f"y = Resize<{CROP}>(x, roi, s)", (OLD, 18), given=region("roi", 0, 0, 0.1, 0.2, 1, 1, 0.7, 0.9)),
    *(resize(X, ints("s", *s) + f'y = Resize<mode = "{mode}", axes = [2, 3], keep_aspect_ratio_policy = "{p}">(x, , , s)', (18, NEWEST), variants=STATIC)
      for mode in ("nearest", "linear", "cubic") for p, s in (("not_larger", (8, 12)), ("not_smaller", (7, 10)), ("not_larger", (7, 8)))),
]  # fmt: skip
