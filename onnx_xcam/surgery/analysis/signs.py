"""This module finds tensors that are known to hold no negative value, by the operators that make them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.common.integers import integer_range
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits


def lowest_is_zero(graph: Graph, node: gs.Node, dtype: np.dtype[Any] | None) -> bool:
    """Tell whether the smallest integer of a quantiser or dequantiser stands for zero.

    This holds for unsigned integers without a zero point, and for a zero point at the lower end of the type.

    Args:
        graph: the graph.
        node: a QuantizeLinear or DequantizeLinear.
        dtype: the type of the integers, None if it is not known.
    """
    bounds = None if dtype is None else integer_range(dtype)
    if bounds is None:
        return False
    zero = graph.constants.get(node.inputs[2].name) if len(node.inputs) > 2 else np.zeros((), dtype)
    return zero is not None and bool((zero.astype(np.int64) == bounds[0]).all())


def is_non_negative(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is known to hold no negative value, by the operators that make it."""
    waiting, asked = [name], {name}
    while waiting:  # every tensor that it is made of by operators that keep the sign must be non-negative
        needed = _needed(graph, waiting.pop())
        if needed is None:
            return False
        waiting += [tensor for tensor in dict.fromkeys(needed) if tensor not in asked]
        asked.update(needed)
    return True


def _is_bounded(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a Clip or a DequantizeLinear returns nothing below zero, whatever its input."""
    if traits(node).dequantises:
        return lowest_is_zero(graph, node, graph.dtype(node.inputs[0].name))
    low = graph.constants.get(node.inputs[1].name) if len(node.inputs) > 1 else node.attrs.get("min")
    return low is not None and bool((np.asarray(low) >= 0).all())


def _needed(graph: Graph, tensor: str) -> list[str] | None:
    """Return the tensors that must be non-negative for this one to be so; None if no such tensors would do."""
    if tensor in graph.constants:
        return [] if (np.asarray(graph.constants[tensor]) >= 0).all() else None
    node = graph.producer.get(tensor)
    if node is None:
        return None
    facts = traits(node)
    if facts.bounds[0] >= 0:
        return []
    if facts.clips or facts.dequantises:
        return [] if _is_bounded(graph, node) else None
    if not (facts.non_negative_of_such or facts.between or facts.values <= Values.PICKED):
        return None
    return [t.name for t in node.inputs[: facts.differentiable]]
