"""Pooling."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from helpers.gradients.rows import NEWEST, OLD, Row, row

TWO = "float[N,2,H,W] x"
MAX = [
    (TWO, "kernel_shape = [2, 2], strides = [2, 2]"),
    (TWO, "kernel_shape = [3, 2]"),
    (TWO, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]"),
    (TWO, "kernel_shape = [3, 3], strides = [2, 1], pads = [0, 1, 2, 0]"),
    (TWO, "kernel_shape = [2, 3], dilations = [2, 2], pads = [1, 1, 0, 1]"),
    (TWO, "kernel_shape = [3, 2], strides = [2, 2], ceil_mode = 1"),
    # Where a last window would start beyond the input it does not exist; onnx's shape inference counts it all the same
    # (kernel 2, stride 3 on 6), so there is no row for that.
    (TWO, "kernel_shape = [2, 3], strides = [3, 3], ceil_mode = 1"),
    (TWO, 'kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_UPPER"'),
    (TWO, 'kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_LOWER"'),
    (TWO, 'kernel_shape = [3, 2], auto_pad = "SAME_LOWER"'),
    (TWO, 'kernel_shape = [3, 2], strides = [2, 2], auto_pad = "VALID"'),
    ("float[N,2,W] x", "kernel_shape = [3], strides = [2]"),
    ("float[N,1,D,H,W] x", "kernel_shape = [2, 3, 2], strides = [1, 2, 2]"),
]
AVERAGE = [
    *(options for options in MAX if "dilations" not in options[1]),
    (TWO, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1"),
    (TWO, "kernel_shape = [3, 3], pads = [1, 0, 2, 1], count_include_pad = 1"),
    (TWO, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1, ceil_mode = 1"),
    (TWO, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 0, 0, 1], ceil_mode = 1"),
    (TWO, "kernel_shape = [7, 6]"),
    # One window as large as the input, but moved off it by the padding at the beginning.
    (TWO, "kernel_shape = [7, 6], strides = [2, 2], pads = [1, 1, 0, 0]"),
    (TWO, "kernel_shape = [7, 6], strides = [2, 3], pads = [0, 2, 0, 0], count_include_pad = 1"),
    (TWO, 'kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_UPPER", count_include_pad = 1'),
    (TWO, 'kernel_shape = [3, 2], strides = [2, 2], auto_pad = "SAME_LOWER", count_include_pad = 1'),
]
# Windows larger than the input, as an average of unknown size is taken by some (kernel 1280, ceil_mode).
WIDE = [
    (TWO, "kernel_shape = [5000, 5000], strides = [5000, 5000], ceil_mode = 1"),
    (TWO, "kernel_shape = [70, 64], pads = [40, 30, 40, 30]"),
    (TWO, "kernel_shape = [70, 64], strides = [3, 1], pads = [40, 30, 44, 31], count_include_pad = 1"),
    (TWO, 'kernel_shape = [70, 64], strides = [4, 1], auto_pad = "SAME_UPPER"'),
    ("float[N,2,W] x", "kernel_shape = [5000], strides = [5000], ceil_mode = 1"),
    ("float[N,1,D,H,W] x", "kernel_shape = [2, 64, 64], pads = [0, 30, 31, 0, 30, 33]"),
]
SIZES = {"D": 3, "H": 7, "W": 6}

ROWS: list[Row] = [
    *(row("MaxPool", x, f"y = MaxPool<{attributes}>(x)", opsets=(OLD, 12, 17, NEWEST), **SIZES) for x, attributes in MAX),
    *(row("AveragePool", x, f"y = AveragePool<{attributes}>(x)", opsets=(OLD, 19, NEWEST), **SIZES) for x, attributes in AVERAGE),
    *(row("AveragePool", x, f"y = AveragePool<{attributes}>(x)", opsets=(OLD, 19), **SIZES) for x, attributes in WIDE),
    row("AveragePool", TWO, "y = AveragePool<kernel_shape = [70, 64], dilations = [2, 2], pads = [69, 61, 69, 62]>(x)", opsets=(19,), **SIZES),
    row("AveragePool", TWO, "y = AveragePool<kernel_shape = [2, 3], dilations = [2, 2], pads = [1, 1, 1, 0]>(x)", opsets=(19, 22), **SIZES),
    row("AveragePool", TWO, "y = AveragePool<kernel_shape = [2, 3], dilations = [2, 1], strides = [2, 2], ceil_mode = 1>(x)", opsets=(19,), **SIZES),
    *(row(op, x, f"y = {op}(x)", opsets=(OLD, 22), **SIZES) for op in ("GlobalAveragePool", "GlobalMaxPool")
      for x in (TWO, "float[N,2,W] x", "float[N,3,D,H,W] x")),
    # The padding is odd, so that it differs between the two sides.
    *(row(op, TWO, f'y = {op}<kernel_shape = [3, 2], strides = [2, 2], auto_pad = "{auto}">(x)', opsets=(OLD, NEWEST), H=8, W=5)
      for op in ("MaxPool", "AveragePool") for auto in ("SAME_UPPER", "SAME_LOWER")),
    *(row("LpPool", x, f"y = LpPool<{attributes}>(x)", opsets=(opset,), **SIZES)
      for opset, x, attributes in (
          (OLD, TWO, "kernel_shape = [2, 2], strides = [2, 2]"),
          (OLD, TWO, "kernel_shape = [3, 2], p = 3"),
          (OLD, TWO, "kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1], p = 1"),
          (18, TWO, "kernel_shape = [2, 2], dilations = [2, 1], pads = [1, 0, 0, 1]"),
          (22, "float[N,2,W] x", "kernel_shape = [3], strides = [2], p = 4"))),
    *(row("GlobalLpPool", x, f"y = GlobalLpPool{p}(x)", opsets=(OLD, 17), **SIZES)
      for x, p in ((TWO, ""), (TWO, "<p = 1>"), ("float[N,2,W] x", "<p = 3>"))),
]  # fmt: skip
