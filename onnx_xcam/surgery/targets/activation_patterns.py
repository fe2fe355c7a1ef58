"""This module recognises final activations, either as one operator or written out as a pattern of several.

softmax(x) = exp(x) / sum(exp(x)),  log softmax(x) = x - log(sum(exp(x))),  sigmoid(x) = 1 / (1 + exp(-x))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard

ToProbabilities: TypeAlias = Literal["none", "exp"]
"""The function that turns an output into probabilities: none at all, or exp."""

ACTIVATIONS: Mapping[str, ToProbabilities | None] = {
    "Softmax": "none",
    "LogSoftmax": "exp",
    "Sigmoid": "none",
    "HardSigmoid": "none",
    "Hardmax": None,
}
"""This table maps each final activation to the function that turns its result into probabilities, None if none does."""
_OVER_AN_AXIS = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
"""These activations normalise along an axis, and so compare classes only if that axis is the one of the classes."""
_ONE_AXIS = 13
"""From this opset on, a softmax normalises along its axis alone; before, over that axis and all later ones."""


def activation(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """Return the activation that a node computes, alone or as a pattern's last node, and its input tensor."""
    if not is_standard(node.domain):
        return None
    if node.op in ACTIVATIONS:
        return (str(node.op), str(node.inputs[0].name)) if _is_over_classes(graph, node) else None
    spelled = _SPELLED_OUT.get(str(node.op))
    return spelled(graph, node) if spelled else None


def _is_over_classes(graph: Graph, node: gs.Node) -> bool:
    """Tell whether an activation compares classes, so that its axis is not that of the images and not of length 1."""
    shape = graph.shape(node.inputs[0].name)
    if node.op not in _OVER_AN_AXIS or not shape or len(shape) == 1:
        return True
    axis = int(node.attrs.get("axis", 1 if graph.opset < _ONE_AXIS else -1)) % len(shape)
    over = range(axis, len(shape)) if graph.opset < _ONE_AXIS else [axis]
    return 0 not in over and (any(shape[a] != 1 for a in over) or all(dim == 1 for dim in shape[1:]))


def _of_quotient(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """Recognise a Div: exp(x) / sum(exp(x)), 1 / (1 + exp(-x)) or exp(x) / (1 + exp(x))."""
    above, below = (tensor.name for tensor in node.inputs[:2])
    if number(graph, above) == 1:
        return _one_over(graph, below)
    powers = _made_by(graph, above, "Exp")
    if powers is None:
        return None
    total = _made_by(graph, below, "ReduceSum")
    if total is not None and _same(graph, total.inputs[0].name, above) and keeps_images(graph, total):
        return "Softmax", _without_its_largest(graph, powers.inputs[0].name)
    addend = _plus_one(graph, below)
    return ("Sigmoid", str(powers.inputs[0].name)) if addend and _same(graph, addend, above) else None


def _of_reciprocal(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """Recognise a Reciprocal: 1 / (1 + exp(-x))."""
    return _one_over(graph, node.inputs[0].name)


def _of_difference(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """Recognise a Sub: x - log(sum(exp(x)))."""
    x, below = (tensor.name for tensor in node.inputs[:2])
    total = _made_by(graph, below, "ReduceLogSumExp")
    if total is None and (log := _made_by(graph, below, "Log")) is not None:
        total = _made_by(graph, log.inputs[0].name, "ReduceSum")
        powers = None if total is None else _made_by(graph, total.inputs[0].name, "Exp")
        source = None if powers is None else powers.inputs[0].name
    else:
        source = None if total is None else total.inputs[0].name
    if total is None or source is None or not _same(graph, source, x) or not keeps_images(graph, total):
        return None
    return "LogSoftmax", _without_its_largest(graph, x)


def _of_pair(graph: Graph, node: gs.Node) -> tuple[str, str] | None:
    """Recognise a Concat of the probabilities of two classes: [1 - p, p] with p = sigmoid(x)."""
    if len(node.inputs) != 2 or node.attrs.get("axis") == 0:
        return None
    rest, p = (tensor.name for tensor in node.inputs)
    difference = _made_by(graph, rest, "Sub")
    if difference is None or number(graph, difference.inputs[0].name) != 1:
        return None
    maker = graph.producer.get(_source(graph, p))
    if maker is None or not _same(graph, difference.inputs[1].name, p):
        return None
    recognised = activation(graph, maker)
    return recognised if recognised and recognised[0] == "Sigmoid" else None


_SPELLED_OUT: Mapping[str, Callable[[Graph, gs.Node], tuple[str, str] | None]] = {
    "Div": _of_quotient,
    "Reciprocal": _of_reciprocal,
    "Sub": _of_difference,
    "Concat": _of_pair,
}
"""This table maps the last operator of a pattern to the function that recognises the pattern."""


def _one_over(graph: Graph, below: str) -> tuple[str, str] | None:
    """Return "Sigmoid" and x if the tensor is 1 + exp(-x), the denominator of 1 / (1 + exp(-x))."""
    powers = _made_by(graph, _plus_one(graph, below) or "", "Exp")
    negative = None if powers is None else _negated(graph, powers.inputs[0].name)
    return ("Sigmoid", negative) if negative else None


def _plus_one(graph: Graph, name: str) -> str | None:
    """Return the name of t if the tensor is 1 + t."""
    total = _made_by(graph, name, "Add")
    if total is None:
        return None
    first, second = (tensor.name for tensor in total.inputs)
    if number(graph, first) == 1:
        return str(second)
    return str(first) if number(graph, second) == 1 else None


def _negated(graph: Graph, name: str) -> str | None:
    """Return the name of x if the tensor is -x."""
    node = graph.producer.get(_source(graph, name))
    if node is None:
        return None
    if node.op == "Neg":
        return str(node.inputs[0].name)
    if node.op == "Mul":
        for factor, x in (node.inputs, node.inputs[::-1]):
            if number(graph, factor.name) == -1:
                return str(x.name)
    return str(node.inputs[1].name) if node.op == "Sub" and number(graph, node.inputs[0].name) == 0 else None


def _without_its_largest(graph: Graph, name: str) -> str:
    """Return the name of x if the tensor is x - max(x), else the tensor's own name."""
    node = _made_by(graph, name, "Sub")
    if node is None:
        return name
    x, below = (tensor.name for tensor in node.inputs)
    largest = _made_by(graph, below, "ReduceMax")
    return str(x) if largest is not None and _same(graph, largest.inputs[0].name, x) else name


def keeps_images(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a reduction leaves the first axis, that of the images, as it is."""
    axes = node.attrs.get("axes")
    if axes is None and len(node.inputs) > 1:
        known = graph.constants.get(node.inputs[1].name)
        axes = None if known is None else known.reshape(-1).tolist()
    shape = graph.shape(node.inputs[0].name)
    return bool(axes) and shape is not None and all(axis % len(shape) for axis in axes)


def _made_by(graph: Graph, name: str, op: str) -> gs.Node | None:
    """Return the node that computed a tensor, before any copies, if it is a standard operator of this type."""
    node = graph.producer.get(_source(graph, name))
    return node if node is not None and node.op == op and is_standard(node.domain) else None


def _same(graph: Graph, first: str, second: str) -> bool:
    """Tell whether two names stand for copies of one tensor."""
    return _source(graph, first) == _source(graph, second)


def _source(graph: Graph, name: str) -> str:
    """Return the name of the tensor that this one is a copy of, or its own name."""
    while (node := graph.producer.get(name)) is not None and traits(node).values == Values.COPIED:
        name = str(node.inputs[0].name)
    return name


def number(graph: Graph, name: str, other: float | None = None) -> float | None:
    """Return the value of a constant that is a single number, else `other`."""
    value = graph.constants.get(name)
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 and value.dtype.kind in "fiu" else other
