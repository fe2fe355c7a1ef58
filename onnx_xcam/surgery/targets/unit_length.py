"""This module recognises vectors of length 1: tensors that were divided by their own length last, as embeddings are.

y = x / sqrt(sum(x^2))      LpNormalization, or written out with Div, Mul, Reciprocal, Pow, ReduceL2, ...
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import number

_BOUNDS = frozenset({"Clip", "Max", "Add"})
"""These operators keep a length away from zero before something is divided by it."""


def is_normalised(graph: Graph, name: str) -> bool:
    """Tell whether a tensor was divided by its own length last, in any of the forms that exporters write."""
    node = last_maker(graph, name)
    if node is None:
        return False
    if node.op == "LpNormalization":
        return int(node.attrs.get("p", 2)) == 2
    if node.op == "Div":
        return _is_length_of(graph, node.inputs[1].name, node.inputs[0].name)
    if node.op != "Mul":
        return False
    pairs = ((node.inputs[0].name, node.inputs[1].name), (node.inputs[1].name, node.inputs[0].name))
    if any(number(graph, factor) is not None and is_normalised(graph, x) for x, factor in pairs):
        return True
    return any(_is_inverse_length_of(graph, factor, x) for x, factor in pairs)


def _is_inverse_length_of(graph: Graph, name: str, x: str) -> bool:
    """Tell whether a tensor is 1 / |x|: a reciprocal, a quotient, or the power -1/2 of the sum of squares."""
    node = last_maker(graph, name, _BOUNDS)
    if node is None:
        return False
    if node.op == "Reciprocal":
        return _is_length_of(graph, node.inputs[0].name, x)
    if node.op == "Div" and number(graph, node.inputs[0].name) is not None:
        return _is_length_of(graph, node.inputs[1].name, x)
    return node.op == "Pow" and number(graph, node.inputs[1].name) == -0.5 and _is_square(graph, node.inputs[0].name, x)


def _is_length_of(graph: Graph, name: str, x: str) -> bool:
    """Tell whether a tensor is |x|, apart from what keeps it from being zero."""
    node = last_maker(graph, name, _BOUNDS)
    if node is None:
        return False
    if node.op == "ReduceL2":
        return _source(graph, node.inputs[0].name) == _source(graph, x)
    if node.op == "Pow" and number(graph, node.inputs[1].name) == -0.5:
        return False
    roots = node.op == "Sqrt" or (node.op == "Pow" and number(graph, node.inputs[1].name) == 0.5)
    return roots and _is_square(graph, node.inputs[0].name, x)


def _is_square(graph: Graph, name: str, x: str) -> bool:
    """Tell whether a tensor is sum(x^2), apart from what keeps it from being zero."""
    node, own = last_maker(graph, name, _BOUNDS), _source(graph, x)
    if node is None:
        return False
    if node.op == "ReduceSumSquare":
        return _source(graph, node.inputs[0].name) == own
    if node.op != "ReduceSum":
        return False
    squares = last_maker(graph, node.inputs[0].name)
    if squares is None or _source(graph, squares.inputs[0].name) != own:
        return False
    if squares.op == "Mul":
        return _source(graph, squares.inputs[1].name) == own
    return squares.op == "Pow" and number(graph, squares.inputs[1].name) == 2


def last_maker(graph: Graph, name: str, passed: frozenset[str] = frozenset()) -> gs.Node | None:
    """Return the node that computes a tensor, before nodes that only move or convert its values, or are in `passed`."""
    while (node := graph.producer.get(name)) is not None and is_standard(node.domain):
        if node.op not in passed and not (traits(node).values <= Values.REPEATED or traits(node).casts):
            return node
        names = [tensor.name for tensor in node.inputs]
        if node.op in ("Add", "Max"):
            names = [other for other in names if number(graph, other) is None]
            if len(names) != 1:
                return node
        name = str(names[0])
    return None


def _source(graph: Graph, name: str) -> str:
    """Return the name of the tensor that holds the same values before they were moved or converted."""
    while (node := graph.producer.get(name)) is not None:
        if not (traits(node).values <= Values.REARRANGED or traits(node).casts):
            break
        name = str(node.inputs[0].name)
    return name
