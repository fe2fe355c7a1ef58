"""This module holds the affine term of each operator: the part of a node's output that does not depend on the layer.

Near its input, a piecewise affine node is y = J x + c, with J its derivative with respect to the tensors x that depend
on the layer: c is the bias of a Conv, the 6 of a ReLU6 where it clips, the other operand of an Add. Each c is computed
from the constants themselves, never as y - J x, so that results made of it can be checked (see score_decomposition.py).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.op_facts import ALL, Affine
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.rules.node import NodeView
from onnx_xcam.surgery.rules.norm import per_channel


@dataclass(frozen=True)
class Operand:
    """An Operand is an affine term, or one summand of it.

    Attributes:
        value: the term, which broadcasts against y.
        source: the tensor that it comes from; None for one of the node's own numbers.
    """

    value: Value
    source: str | None = None


Parts = Iterator[Operand]
"""The affine term of a node, summand by summand."""
AFFINE_TERMS: dict[str, Callable[[NodeView], Parts]] = {}
"""This table maps an operator to the function that yields its affine term."""


def affine_term(*ops: str) -> Callable[[Callable[[NodeView], Parts]], Callable[[NodeView], Parts]]:
    """Register a function as the affine term of operators."""

    def register(function: Callable[[NodeView], Parts]) -> Callable[[NodeView], Parts]:
        AFFINE_TERMS.update(dict.fromkeys(ops, function))
        return function

    return register


def _operand(node: NodeView, index: int, value: Value | None = None) -> Operand:
    """Return an input of a node as a summand, with the given value or the input's own."""
    return Operand(node.input(index) if value is None else value, str(node.node.inputs[index].name))


def _other(node: NodeView) -> list[int]:
    """Return the indices of the inputs that do not depend on the layer."""
    return [i for i in range(len(node.node.inputs)) if node.has_input(i) and not node.needs(i)]


@affine_term("Conv", "ConvTranspose")
def conv(node: NodeView) -> Parts:
    """y = x * W + b;  c = b."""
    if node.has_input(2) and not node.needs(2):
        yield _operand(node, 2, node.input(2).unsqueeze(list(range(1, node.y.rank - 1))))


@affine_term("Gemm")
def gemm(node: NodeView) -> Parts:
    """Y = alpha A' B' + beta C;  c = beta C."""
    if node.has_input(2) and not node.needs(2):
        yield _operand(node, 2, node.input(2) * node.attr("beta", 1.0))


@affine_term("Add", "Sum")
def add(node: NodeView) -> Parts:
    """y = a + b + ...;  c = the sum of the operands that do not depend on the layer."""
    yield from (_operand(node, i) for i in _other(node))


@affine_term("Mean")
def mean(node: NodeView) -> Parts:
    """y = (a + b + ...) / n;  c = the sum of the operands that do not depend on the layer, divided by n."""
    yield from (_operand(node, i, node.input(i) / len(node.node.inputs)) for i in _other(node))


@affine_term("Sub")
def sub(node: NodeView) -> Parts:
    """y = a - b;  c = a where only b depends on the layer, -b where only a does."""
    yield from (_operand(node, i, -node.input(i) if i else None) for i in _other(node))


@affine_term("Concat")
def concat(node: NodeView) -> Parts:
    """y = the inputs one after the other;  c = those that do not depend on the layer, and zeros for the others."""
    others, axis = _other(node), int(node.attr("axis", 1)) % node.y.rank
    for i in others:
        pieces = [node.input(j) if j == i else node.input(j) * 0 for j in range(len(node.node.inputs))]
        yield _operand(node, i, node.emitter.concat(pieces, axis).with_shape(node.y.shape))


@affine_term("Max", "Min")
def extremum(node: NodeView) -> Parts:
    """y = max(a, b, ...);  c = y where it equals an input that does not depend on the layer, shared in a tie."""
    if _other(node):
        masks = [x.equal(node.y).cast(node.y.dtype) for x in node.inputs]
        count = masks[0]
        for mask in masks[1:]:
            count = count + mask
        yield from (_operand(node, i, node.input(i) * masks[i] / count) for i in _other(node))


@affine_term("Where")
def where(node: NodeView) -> Parts:
    """y = a where the condition holds, else b;  c = the operand that does not depend on the layer, where chosen."""
    condition = node.input(0)
    for i in (1, 2):
        if not node.needs(i):
            chosen = condition if i == 1 else condition.logical_not()
            yield _operand(node, i, node.input(i) * chosen.cast(node.y.dtype))


@affine_term("Clip")
def clip(node: NodeView) -> Parts:
    """y = min(max(x, low), high);  c = low where y = low, high where y = high."""
    for index, name in ((1, "min"), (2, "max")):
        bound = node.input(index) if node.has_input(index) else node.attr(name)
        if bound is None or node.is_unclipped:
            continue
        inside = node.rounded_y > bound if name == "min" else node.rounded_y < bound
        mask = inside.logical_not().cast(node.y.dtype)
        value = mask * bound
        yield _operand(node, index, value) if node.has_input(index) else Operand(value)


@affine_term("HardSigmoid")
def hard_sigmoid(node: NodeView) -> Parts:
    """y = min(max(alpha x + beta, 0), 1);  c = beta where 0 < y < 1, 1 where y = 1."""
    above = (node.y < 1).logical_not().cast(node.y.dtype)
    inside = (node.y > 0).logical_and(node.y < 1).cast(node.y.dtype)
    yield Operand(inside * node.attr("beta", 0.5) + above)


@affine_term("Shrink")
def shrink(node: NodeView) -> Parts:
    """y = x + bias where x < -lambda, x - bias where x > lambda, else 0;  c = bias, -bias or 0."""
    limit: float = node.attr("lambd", 0.5)
    sides = [(node.x < -limit).cast(node.y.dtype), (node.x > limit).cast(node.y.dtype)]
    yield Operand((sides[0] - sides[1]) * node.attr("bias", 0.0))


@affine_term("BatchNormalization")
def batch_normalization(node: NodeView) -> Parts:
    """y = scale (x - mean) / sqrt(var + eps) + bias;  c = bias - scale mean / sqrt(var + eps)."""
    if node.attr("training_mode", 0):
        return
    scale, bias, average, variance = (node.input(i).cast(node.y.dtype) for i in range(1, 5))
    deviation = (variance + node.attr("epsilon", 1e-5)).sqrt()
    yield _operand(node, 2, per_channel(bias - scale * average / deviation, node.y.rank))


@affine_term("LayerNormalization", "InstanceNormalization", "GroupNormalization")
def normalization(node: NodeView) -> Parts:
    """y = scale x̂ + bias, with x̂ not affine in x;  c = bias."""
    if node.has_input(2) and not node.needs(2):
        bias = node.input(2)
        yield _operand(node, 2, bias if node.op == "LayerNormalization" else per_channel(bias, node.y.rank))


def is_affine(node: gs.Node, tensors: Collection[str]) -> bool:
    """Tell whether a node is piecewise affine in its inputs among `tensors`, and its affine term is known."""
    if not is_standard(node.domain) or node.attrs.get("training_mode", 0):
        return False
    active = [i for i, tensor in enumerate(node.inputs) if tensor.name in tensors]
    facts = traits(node)
    if facts.affine == Affine.MULTILINEAR:
        factors = [i for i in active if i < 2 or node.op == "Einsum"]
        return len(factors) == 1 and not (node.op == "Div" and 1 in factors)
    if facts.affine == Affine.HOMOGENEOUS:
        return active == [0] and not node.attrs.get("extrapolation_value", 0)
    return facts.affine == Affine.PIECEWISE and (active == [0] or facts.differentiable == ALL)
