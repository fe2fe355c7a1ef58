"""Convolution and its transpose."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from dataclasses import replace

from helpers.gradients.rows import NEWEST, OLD, Row, ints, row

SIZES = {"D": 3, "H": 7, "W": 6}
XW = "float[N,4,H,W] x, float[6,4,3,2] w, float[6] b"
GROUPED = "float[N,4,H,W] x, float[6,2,3,2] w, float[6] b"
DEPTHWISE = "float[N,4,H,W] x, float[4,1,3,3] w, float[4] b"
CONV = [
    (XW, ""),
    (XW, "kernel_shape = [3, 2], pads = [1, 0, 1, 1]"),
    (XW, "strides = [2, 1]"),
    (XW, "strides = [2, 3], pads = [1, 1, 1, 1]"),
    (XW, "strides = [3, 3], pads = [2, 0, 0, 1]"),
    (XW, "dilations = [2, 3], pads = [2, 1, 1, 2]"),
    (XW, "dilations = [2, 1], strides = [2, 2], pads = [0, 1, 2, 0]"),
    (XW, "pads = [3, 3, 4, 2]"),
    (GROUPED, "group = 2, pads = [1, 1, 1, 1]"),
    (GROUPED, "group = 2, strides = [2, 2], pads = [1, 1, 1, 1]"),
    (DEPTHWISE, "group = 4, pads = [1, 1, 1, 1]"),
    (DEPTHWISE, "group = 4, strides = [2, 2], pads = [1, 1, 1, 1]"),
    (DEPTHWISE, "group = 4, strides = [3, 2], pads = [2, 0, 0, 1]"),
    (DEPTHWISE, "group = 4, strides = [2, 1], dilations = [2, 1], pads = [2, 1, 1, 0]"),
    (DEPTHWISE, "group = 4, strides = [4, 5], pads = [1, 0, 2, 0]"),
    (DEPTHWISE, "group = 4, strides = [2, 2], pads = [3, 0, 0, 3]"),
    (DEPTHWISE, 'group = 4, strides = [2, 3], auto_pad = "SAME_UPPER"'),
    ("float[N,4,W] x, float[4,1,3] w, float[4] b", "group = 4, strides = [2], pads = [1, 1]"),
    ("float[N,2,D,H,W] x, float[2,1,2,3,2] w, float[2] b", "group = 2, strides = [1, 2, 2], pads = [0, 1, 1, 1, 1, 0]"),
    ("float[N,4,H,W] x, float[8,1,3,3] w, float[8] b", "group = 4, pads = [1, 1, 1, 1]"),
    ("float[N,4,H,W] x, float[6,2,1,1] w, float[6] b", "group = 2, strides = [3, 2]"),
    ("float[N,4,H,W] x, float[6,4,1,1] w, float[6] b", "strides = [2, 4], pads = [0, 0, 1, 1]"),
    *((XW, f'auto_pad = "{auto}"{strides}') for auto in ("SAME_UPPER", "SAME_LOWER", "VALID") for strides in ("", ", strides = [2, 3]")),
    (XW, 'auto_pad = "SAME_LOWER", strides = [1, 2]'),
    (XW, 'auto_pad = "VALID", dilations = [2, 2]'),  # ONNX Runtime knows no dilations with the SAME forms
    ("float[N,4,H,W] x, float[6,4,1,1] w, float[6] b", ""),
    ("float[N,4,H,W] x, float[6,4,1,1] w, float[6] b", "strides = [2, 2]"),
    ("float[N,4,H,W] x, float[6,4,1,1] w, float[6] b", "pads = [0, 0, 1, 1]"),
    ("float[N,4,W] x, float[6,2,3] w, float[6] b", "group = 2, strides = [2], pads = [1, 0]"),
    ("float[N,2,D,H,W] x, float[3,2,2,3,2] w, float[3] b", "strides = [1, 2, 2], pads = [0, 1, 1, 1, 1, 0]"),
    ("float[N,2,D,H,W] x, float[3,2,2,3,2] w, float[3] b", "dilations = [1, 2, 1]"),
]  # fmt: skip
XT = "float[N,4,H,W] x, float[4,3,3,2] w"
TRANSPOSE = [
    (XT, ""),
    (XT, "strides = [2, 3], pads = [1, 0, 0, 1]"),
    (XT, "strides = [2, 3], output_padding = [1, 2]"),
    (XT, "strides = [2, 2], dilations = [2, 1], pads = [1, 1, 2, 0]"),
    (XT, "strides = [2, 2], kernel_shape = [3, 2], output_shape = [15, 13]"),
    (XT, "strides = [2, 2], output_shape = [16, 13]"),
    (XT, 'strides = [2, 2], output_shape = [14, 11], auto_pad = "SAME_UPPER"'),
    (XT, 'strides = [2, 2], output_shape = [14, 11], auto_pad = "SAME_LOWER"'),
    (XT, 'strides = [2, 2], auto_pad = "SAME_UPPER"'),
    (XT, 'strides = [2, 2], auto_pad = "SAME_LOWER"'),
    (XT, 'strides = [3, 3], auto_pad = "SAME_UPPER"'),
    (XT, 'strides = [2, 2], auto_pad = "VALID"'),
    ("float[N,4,H,W] x, float[4,3,3,3] w", "group = 2, strides = [2, 2], pads = [1, 1, 1, 1], output_padding = [1, 1]"),
    ("float[N,4,H,W] x, float[4,1,3,3] w", "group = 4, strides = [2, 2]"),
    ("float[N,4,W] x, float[4,3,4] w", "strides = [2], pads = [1, 1]"),
    ("float[N,2,D,H,W] x, float[2,3,2,2,2] w", "strides = [2, 2, 2]"),
]
WRONG_IN_REFERENCE = ("group = 2, strides", "group = 4, strides = [2, 2]>", '[3, 3], auto_pad = "SAME_UPPER"')
"""The reference evaluator's transposed convolution knows neither groups nor a kernel smaller than its stride."""
STATIC = ("static", "constant")


def only_static(attributes: str) -> dict[str, tuple[str, ...]]:
    """An output_shape, and the weight's gradient with a padding that depends on the input's size, need that size."""
    dynamic = "SAME" in attributes and "strides" in attributes
    return {"variants": STATIC} if "output_shape" in attributes or dynamic else {}


_ROWS: list[Row] = [
    *(row("Conv", inputs, f"y = Conv<{attributes}>(x, w, b)".replace("<>", ""), opsets=(OLD, 22),
          **SIZES, **only_static(attributes)) for inputs, attributes in CONV),
    *(row("Conv", inputs, f"y = Conv<{attributes}>(x, w, b)", wrt=("x",), opsets=(OLD, 22), **SIZES)
      for inputs, attributes in CONV if only_static(attributes)),
    # The padding is odd, so that it differs between the two sides.
    *(row("Conv", XW, f'y = Conv<auto_pad = "{auto}", strides = [2, 2]>(x, w, b)', wrt=("x",), opsets=(OLD, 22), H=8, W=5)
      for auto in ("SAME_UPPER", "SAME_LOWER")),
    row("Conv", "float[N,4,H,W] x, float[6,4,3,3] w", "y = Conv(x, w)", wrt=("x",), **SIZES),
    row("Conv", "float[N,4,H,W] x, float[6,4,1,1] w", "y = Conv(x, w)", wrt=("x",), **SIZES),
    row("Conv", "float[N,4,H,W] x, float[6,4,1,1] w", "y = Conv(x, w)", wrt=("w",), **SIZES),
    row("Conv", "float[N,4,7,W] x, float[6,4,3,2] w", "y = Conv<strides = [2, 2]>(x, w)", **SIZES),
    row("Conv", XW, "y = Conv(x, w, b)", wrt=("b",), **SIZES),
    *(row("Col2Im", f"float[N,{channels},L] x", ints("s", *size) + ints("b", *block) + f"y = Col2Im{attributes}(x, s, b)", L=length, opsets=(18, NEWEST))
      for channels, length, size, block, attributes in (
          (12, 4, (4, 4), (2, 2), "<strides = [2, 2]>"), (12, 9, (4, 5), (2, 3), ""),
          (8, 4, (4, 5), (2, 2), "<pads = [1, 0, 1, 0], strides = [2, 2], dilations = [2, 1]>"))),
    *(row("ConvTranspose", f"{inputs}, float[{channels}] b", f"y = ConvTranspose<{attributes}>(x, w, b)".replace("<>", ""), wrt=("x",),
          opsets=(OLD, 22), **SIZES, **({"variants": STATIC} if "output_shape" in attributes else {}))
      for inputs, attributes in TRANSPOSE for channels in [{"group = 2": 6, "group = 4": 4}.get(attributes[:9], 3)]),
]  # fmt: skip
ROWS = [replace(r, oracle="linear") if any(form in r.body for form in WRONG_IN_REFERENCE) else r for r in _ROWS]
