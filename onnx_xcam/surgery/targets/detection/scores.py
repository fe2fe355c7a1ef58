"""This module tells what made the columns of a detector's table: an activation, a product, a layer, or something else.

What only moves values is followed back first (spans.py). A layer may have a bias, a scale or a normalisation of its
columns behind it. The logits behind an activation or a product are emitted by `candidates/logits.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.dims import differ
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Affine, Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import activation
from onnx_xcam.surgery.targets.detection.spans import Span, aligned, is_fixed, origins

Made: TypeAlias = Literal["sigmoid", "softmax", "product", "layer", "constant", "computed"]
"""What made the values of a span: an activation, a product of probabilities, a layer, or something else."""
PROBABILITIES: frozenset[Made] = frozenset({"sigmoid", "softmax", "product"})
"""These are the kinds of values that are probabilities."""
_NESTED = 4
"""Probabilities are products of so many others at most, one within the other: a square root, objectness, centre, class.

Each product looks at its factors, so that a model of nothing but products would take twice as long for each of them.
"""
_KNOWN: WeakKeyDictionary[Graph, dict[tuple[Span, int], Made]] = WeakKeyDictionary()
"""What made the spans of each graph that were asked for so far: a span is asked for by each product that it is in."""
_STEPS = 20
"""At most this many nodes between a layer with weights and its output add or multiply something."""


def made_by(graph: Graph, span: Span, nested: int = _NESTED) -> Made:
    """Return what made the values of a span whose movements have been followed.

    Args:
        graph: the model.
        span: the values.
        nested: how deep products may be nested in one another; deeper ones count as computed.
    """
    node = graph.producer.get(span.name)
    if is_fixed(graph, span.name) or (node is not None and _is_filled(graph, node)):
        return "constant"
    if node is None:
        return "computed"
    if (found := activated(graph, span)) is not None:
        return found
    if factors(graph, span, nested) is not None:
        return "product"
    return "layer" if _is_of_layer(graph, span.name, span.axis) else "computed"


def kind_of(graph: Graph, given: Span, nested: int = _NESTED) -> Made:
    """Return what made the values of a span, however they were moved since; "computed" if they were made variously."""
    known = _KNOWN.setdefault(graph, {})
    if (given, nested) not in known:
        kinds = {made_by(graph, origin, nested) for origin in origins(graph, given)}
        known[given, nested] = kinds.pop() if len(kinds) == 1 else "computed"
    return known[given, nested]


def activated(graph: Graph, span: Span) -> Literal["sigmoid", "softmax"] | None:
    """Return the activation whose result a span is, None for other values.

    A softmax must run over the span's axis; of single values that were picked, nothing says along which axis they lie.
    """
    node = graph.producer.get(span.name)
    found = None if node is None else activation(graph, node)
    if node is None or found is None or not _may_have_one_shape(graph, found[1], span.name):
        return None
    if found[0] in ("Sigmoid", "HardSigmoid"):
        return "sigmoid"
    rank = len(graph.shape(span.name) or ())
    over = node.attrs.get("axis", -1) % rank if node.op == found[0] else span.axis
    return "softmax" if found[0] == "Softmax" and span.axis in (None, over) else None


def _may_have_one_shape(graph: Graph, first: str, second: str) -> bool:
    """Tell whether two tensors have as many axes, and no lengths that are known to differ; names of lengths may."""
    one, other = graph.shape(first), graph.shape(second)
    if one is None or other is None or len(one) != len(other):
        return False
    return not any(differ(a, b) for a, b in zip(one, other, strict=True))


def factors(graph: Graph, span: Span, nested: int = _NESTED) -> Sequence[Span] | None:
    """Return the probabilities that a span is the product of, or its square root; None for other values."""
    node = graph.producer.get(span.name)
    if node is None or not is_standard(node.domain) or not nested:
        return None
    if node.op == "Sqrt":
        inner = replace(span, name=str(node.inputs[0].name))
        return [inner] if kind_of(graph, inner, nested - 1) == "product" else None
    if node.op != "Mul":
        return None
    found = [aligned(graph, span, str(tensor.name)) for tensor in node.inputs]
    known = [factor for factor in found if factor is not None]
    if len(known) < len(found) or not {kind_of(graph, one, nested - 1) for one in known} <= PROBABILITIES:
        return None
    return known


def _is_filled(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a node makes the same numbers of every picture, if perhaps as many as its size asks for."""
    facts = traits(node)
    if facts.values == Values.REPEATED:
        source = str(node.inputs[0].name)
        maker = graph.producer.get(source)
        return graph.is_constant(source) or (maker is not None and _is_filled(graph, maker))
    return facts.zero_derivative and facts.axes == "made"


def _is_of_layer(graph: Graph, name: str, axis: int | None, steps: int = _STEPS) -> bool:
    """Tell whether a layer with weights made values, with at most a bias, a scale or a normalisation behind it."""
    node = graph.producer.get(name)
    if node is None or steps == 0:
        return False
    facts = traits(node)
    if facts.weighted:
        return True
    if facts.affine not in (Affine.PIECEWISE, Affine.MULTILINEAR) or facts.clips:
        return False
    inputs = [str(tensor.name) for tensor in node.inputs[: facts.differentiable]]
    varying = [one for one in inputs if not graph.is_constant(one)]
    fixed = [one for one in inputs if graph.is_constant(one)]
    if len(varying) != 1 or not all(_is_of_columns(graph, one, name, axis) for one in fixed):
        return False
    behind = {made.name for made in origins(graph, Span(varying[0]))}
    return len(behind) == 1 and _is_of_layer(graph, behind.pop(), None, steps - 1)


def _is_of_columns(graph: Graph, constant: str, name: str, axis: int | None) -> bool:
    """Tell whether a constant has one number for each column at most, and none for places."""
    shape, result = graph.shape(constant), graph.shape(name)
    if shape is None or result is None:
        return False
    wide = [at for at, dim in enumerate(shape, len(result) - len(shape)) if dim != 1]
    return not wide or (axis is not None and wide == [axis])
