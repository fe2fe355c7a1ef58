"""This module lowers activations that ONNX Runtime computes in one operator, often with a bias added before.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from math import pi, sqrt

from onnx_xcam.surgery.lowering.expansion import Expansion, lowering

_GELU_OPSET = 20
"""The first opset with Gelu as a standard operator."""


def gelu(e: Expansion, x: str, y: str | None, *, tanh: bool = False) -> str:
    """y = x (1 + erf(x / sqrt 2)) / 2, or, with `tanh`, y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x³))) / 2.

    The function emits y under the given name, or a new one, and returns the name.
    """
    if e.opset >= _GELU_OPSET:
        return e.op("Gelu", [x], y, approximate="tanh" if tanh else "none")
    if tanh:
        cube = e.op("Mul", [e.op("Mul", [x, x]), x])
        inner = e.op("Add", [x, e.calculate("Mul", cube, 0.044715)])
        inner = e.op("Tanh", [e.calculate("Mul", inner, sqrt(2 / pi))])
    else:
        inner = e.op("Erf", [e.calculate("Div", x, sqrt(2))])
    return e.calculate("Mul", e.op("Mul", [x, e.calculate("Add", inner, 1)]), 0.5, y)


def biased(e: Expansion) -> str:
    """Return the node's first input, plus the second input if it is given."""
    return e.op("Add", [e.input(0), e.input(1)]) if e.has_input(1) else e.input(0)


@lowering("Gelu", "BiasGelu")
def exact_gelu(e: Expansion) -> None:
    """y = gelu(x + b), where b is optional."""
    gelu(e, biased(e), e.node.output[0])


@lowering("FastGelu")
def fast_gelu(e: Expansion) -> None:
    """y = gelu(x + b) by the tanh approximation, where b is optional."""
    gelu(e, biased(e), e.node.output[0], tanh=True)


@lowering("QuickGelu")
def quick_gelu(e: Expansion) -> None:
    """y = x sigmoid(alpha x), which is SiLU if alpha is 1."""
    x, alpha = e.input(0), float(e.attr("alpha", 1.702))
    inner = x if alpha == 1 else e.calculate("Mul", x, alpha)
    e.op("Mul", [x, e.op("Sigmoid", [inner])], e.node.output[0])


@lowering("BiasSplitGelu")
def bias_split_gelu(e: Expansion) -> None:
    """y = l gelu(r), where l and r are the halves of x + b along the last axis."""
    split = {"num_outputs": 2} if e.opset >= 18 else {}
    left, right = e.ops("Split", [biased(e)], [None, None], axis=-1, **split)
    e.op("Mul", [left, gelu(e, right, None)], e.node.output[0])


@lowering("BiasSoftmax")
def bias_softmax(e: Expansion) -> None:
    """y = softmax(x + b) over the axes from `axis` on, flattened together."""
    x, rank, axis = biased(e), e.rank(e.input(0)), int(e.attr("axis", 1))
    if axis == -1 or (rank is not None and axis % rank == rank - 1):
        e.op("Softmax", [x], e.node.output[0], axis=-1)
    else:
        flat = e.op("Softmax", [e.op("Flatten", [x], axis=axis)], axis=-1)
        e.op("Reshape", [flat, e.op("Shape", [x])], e.node.output[0])


@lowering("BiasAdd")
def bias_add(e: Expansion) -> None:
    """y = x + b + skip."""
    e.op("Add", [biased(e), e.input(2)], e.node.output[0])


@lowering("BitmaskDropout")
def bitmask_dropout(e: Expansion) -> None:
    """y = x, which is what BitmaskDropout does at inference; a node that may train is left as it is."""
    trains = e.value(e.input(2))
    if not e.has_output(1) and (not e.has_input(2) or (trains is not None and not trains.any())):
        e.op("Identity", [e.input(0)], e.node.output[0])
