"""This module bounds the values of a tensor, and so finds what a quantiser does not clip.

    y = a x + b,  a > 0:  y >= a L + b  where x >= L,  y <= a H + b  where x <= H

The chain of operators is followed back to one with a known range: an activation, a Clip, or a DequantizeLinear, which
returns nothing outside the values of its smallest and largest integer. Two examples of such chains are 1 + erf(x), from
a quantised GELU that is written out, and an average that is quantised with the scale of its input.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.common.integers import integer_range
from onnx_xcam.surgery.analysis.signs import is_non_negative
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits

End: TypeAlias = Literal["min", "max"]
"""The end of a range."""

_CHAIN = 32
"""At most this many operators are followed back."""
_SLACK = 1e-3
"""The tolerance relative to half a step, for the rounding of the scale itself, as in -128 (2 / 255) + 1."""


def bound(graph: Graph, name: str, end: End) -> float:
    """Return a number that no value of a tensor lies below (or above), infinite if none is known."""
    factor, shift = 1.0, 0.0
    for _ in range(_CHAIN):
        if end == "min" and is_non_negative(graph, name):
            return shift
        node = graph.producer.get(name)
        if node is None:
            break
        own = _own_bound(graph, node, end)
        if own is not None:
            return factor * own + shift
        step = _affine(graph, node, end)
        if step is None:
            break
        name, a, b = step
        factor, shift = factor * a, factor * b + shift
    return -math.inf if end == "min" else math.inf


def _own_bound(graph: Graph, node: gs.Node, end: End) -> float | None:
    """Return the lower (or upper) bound of a node's result that holds whatever its input; None if there is none."""
    facts = traits(node)
    if facts.dequantises:
        return end_value(graph, node, end)
    if facts.clips:
        at = 1 if end == "min" else 2
        given = graph.constants.get(node.inputs[at].name) if len(node.inputs) > at else node.attrs.get(end)
        return None if given is None or np.size(given) != 1 else float(np.asarray(given).reshape(()))
    known = facts.bounds[end == "max"]
    return known if math.isfinite(known) else None


def _affine(graph: Graph, node: gs.Node, end: End) -> tuple[str, float, float] | None:
    """Return x, a, b if a node's result is a x + b with a > 0, or at least (at most) that; else None."""
    names, facts = [tensor.name for tensor in node.inputs], traits(node)
    if facts.values <= Values.PICKED or (facts.between and not node.attrs.get("count_include_pad", 0)):
        return names[0], 1.0, 0.0
    if len(names) != 2 or node.op not in ("Add", "Sub", "Mul", "Div"):
        return None
    if node.op in ("Add", "Mul") and names[0] in graph.constants:
        names.reverse()
    other = graph.constants.get(names[1])
    if other is None or other.size == 0 or other.dtype.kind != "f":
        return None
    if node.op in ("Add", "Sub"):
        addends = other if node.op == "Add" else -other
        return names[0], 1.0, float(addends.min() if end == "min" else addends.max())
    if other.size != 1 or other.reshape(()) <= 0:
        return None
    factor = float(other.reshape(()))
    return names[0], factor if node.op == "Mul" else 1 / factor, 0.0


def end_value(graph: Graph, node: gs.Node, end: End, integer: np.ndarray | None = None) -> float | None:
    """Return the float of the last integer at one end of a QuantizeLinear or DequantizeLinear; None if it is not known.

    Args:
        graph: the graph.
        node: the node; if it has several scales, the value nearest to the middle counts.
        end: the end.
        integer: the last integer, if it is not the type's, since fewer integers are used.
    """
    integers = node.inputs[0] if traits(node).dequantises else node.outputs[0]
    dtype = graph.dtype(integers.name)
    bounds = None if dtype is None else integer_range(dtype)
    names = [*(tensor.name for tensor in node.inputs[1:3]), ""][:2]
    scale, zero = (graph.constants.get(name) for name in names)
    if bounds is None or scale is None or (zero is None and names[1]):
        return None
    last = np.asarray(bounds[end == "max"] if integer is None else integer).astype(np.float64)
    values = (last - (0.0 if zero is None else zero.astype(np.float64))) * scale.astype(np.float64)
    return float(values.max() if (end == "min") == traits(node).quantises else values.min())


def clips_nothing(graph: Graph, quantiser: gs.Node, end: End, integer: np.ndarray | None = None) -> bool:
    """Tell whether a QuantizeLinear, or a Clip of its integers, clips nothing at one end.

    This holds if no input is rounded to an integer beyond that end.
    """
    last, scale = end_value(graph, quantiser, end, integer), graph.constants.get(quantiser.inputs[1].name)
    if last is None or scale is None:
        return False
    room = float(scale.min()) * 0.5 * (1 + _SLACK)
    reached = bound(graph, quantiser.inputs[0].name, end)
    return reached >= last - room if end == "min" else reached <= last + room
