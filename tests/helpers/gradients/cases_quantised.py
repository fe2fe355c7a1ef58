"""Quantisation. What is differentiated is the clipping; rounding is taken for the identity."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from helpers.gradients.rows import NEWEST, Row, floats, row, scalar

X = "float[N,3,H,W] x"
STEP = scalar("s", 0.02)
OPSETS = (19, NEWEST)
"""Before 19, onnx takes what DequantizeLinear makes for float32, and the checks are in float64."""


def zero(kind: str, *numbers: int) -> str:
    """The zero point `z` as a Constant node in text form."""
    size = f"[{len(numbers)}]" if len(numbers) > 1 else ""
    return f"z = Constant<value = {kind}{size} {{{', '.join(map(str, numbers))}}}>() "


def pair(scale: str, zero_point: str, attributes: str = "", between: str = "", name: str = "q") -> str:
    """QuantizeLinear and DequantizeLinear with something between."""
    return (
        f"{scale} {zero_point} q = QuantizeLinear{attributes}(x, s, z) {between} "
        f"y = DequantizeLinear{attributes}({name}, s, z)"
    )


def both(body: str, inputs: str = X, **options: object) -> list[Row]:
    """The row for both operators."""
    sizes = {"H": 3, "W": 4} if inputs == X else {}
    options = {"opsets": OPSETS, "oracle": "unrounded", **sizes, **options}
    return [row(op, inputs, body, **options) for op in ("QuantizeLinear", "DequantizeLinear")]


ROWS: list[Row] = [
    *both(pair(STEP, zero("uint8", 128))),
    *both(pair(STEP, zero("int8", 20))),
    *both(pair(STEP, zero("uint8", 0)), opsets=(NEWEST,)),
    *both(pair(scalar("s", 2e-4), zero("int16", 0)), opsets=(NEWEST,)),
    *both(pair(scalar("s", 1e-4), zero("uint16", 20000)), opsets=(NEWEST,)),
    *both(pair(scalar("s", 0.3), zero("int4", 1)), opsets=(NEWEST,), domains={"x": (-2.9, 2.9)}),
    *both(f"{STEP} q = QuantizeLinear(x, s) y = DequantizeLinear(q, s)", opsets=(NEWEST,)),
    *both(pair(floats("s", 0.02, 0.01, 0.03), zero("uint8", 128, 100, 3), "<axis = 1>")),
    *both(pair(floats("s", 0.02, 0.01, 0.03), zero("int8", 0, 0, 0), "<axis = -1>"), "float[N,H,3] x", H=4),
    *both(pair(STEP, zero("int8", 5), between="t = Transpose<perm = [0,2,3,1]>(q)", name="t")),
    *both(pair(STEP, zero("uint8", 128), between="t = MaxPool<kernel_shape = [2,2]>(q)", name="t"), variants=("static", "constant")),
    # Read as numbers, and by two readers at once.
    *both(f"{STEP} {zero('uint8', 128)} q = QuantizeLinear(x, s, z) f = Cast<to = 1>(q) d = DequantizeLinear(q, s, z) y = Add(f, d)"),
    *both(f"{STEP} {zero('uint8', 128)} q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) e = DequantizeLinear(q, s, z) t = Tanh(e) y = Mul(t, d)"),
    row("DynamicQuantizeLinear", X, "q, s, z = DynamicQuantizeLinear(x) f = Cast<to = 1>(q) g = Cast<to = 1>(z) d = Sub(f, g) y = Mul(d, s)", H=3, W=4, opsets=OPSETS, oracle="unrounded"),
]  # fmt: skip
