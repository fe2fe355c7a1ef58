"""This module finds which positions of their input Slice, Split and Gather take, where the graph shows it."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import Graph

_MOST_POSITIONS = 1 << 22
"""The positions of longer axes are not listed."""


def positions(graph: Graph, node: gs.Node, output: int) -> dict[int, np.ndarray | None] | None:
    """Return the positions of its input that an output takes, for each axis that a Slice, Split or Gather cuts.

    Returns:
        The positions by axis, None for an axis with unknown ones; None altogether if not even the axes are known.
    """
    shape = graph.shape(node.inputs[0].name)
    if shape is None:
        return None
    if node.op == "Slice":
        return _sliced(graph, node, shape)
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    if node.op == "Gather":
        indices, dim = graph.constants.get(node.inputs[1].name), shape[axis]
        known = indices is not None and isinstance(dim, int) and dim > 0
        return {axis: indices.reshape(-1) % dim if known else None}  # type: ignore[union-attr]
    return {axis: _split(graph, node, axis, output)}


def _sliced(graph: Graph, node: gs.Node, shape: tuple[Dim, ...]) -> dict[int, np.ndarray | None] | None:
    """Return the positions that a Slice takes, by axis; None if the axes are not known."""
    starts, stops = ints(graph, node, 1, "starts"), ints(graph, node, 2, "ends")
    known = [numbers for numbers in (starts, stops) if numbers is not None]
    axes = ints(graph, node, 3, "axes")
    if axes is None:
        if (len(node.inputs) > 3 and node.inputs[3].name) or not known:
            return None
        axes = list(range(len(known[0])))
    steps = ints(graph, node, 4, "steps")
    if steps is None:
        steps = [1] * len(axes)
    taken: dict[int, np.ndarray | None] = {}
    for i, axis in enumerate(axes):
        dim = shape[axis]
        if starts is None or stops is None or not isinstance(dim, int) or dim > _MOST_POSITIONS:
            taken[axis % len(shape)] = None
            continue
        stop = None if steps[i] < 0 and stops[i] < -dim else stops[i]
        taken[axis % len(shape)] = np.arange(dim)[starts[i] : stop : steps[i]]
    return taken


def _split(graph: Graph, node: gs.Node, axis: int, output: int) -> np.ndarray | None:
    """Return the positions that an output of a Split takes along its axis; None if they are not known."""
    sizes = ints(graph, node, 1, "split")
    if sizes is None:
        shapes = [graph.shape(out.name) for out in node.outputs]
        dims = [None if shape is None else shape[axis] for shape in shapes]
        if not all(isinstance(dim, int) for dim in dims):
            return None
        sizes = [int(dim) for dim in dims]  # type: ignore[arg-type]
    start = sum(sizes[:output])
    return np.arange(start, start + sizes[output]) if start + sizes[output] <= _MOST_POSITIONS else None


def ints(graph: Graph, node: gs.Node, index: int, attribute: str) -> list[int] | None:
    """Return integers that newer opsets take as an input and older ones as an attribute; None if they are not known."""
    if len(node.inputs) > index and node.inputs[index].name:
        value = graph.constants.get(node.inputs[index].name)
        return None if value is None else [int(number) for number in value.reshape(-1)]
    stated = node.attrs.get(attribute)
    return None if stated is None else [int(number) for number in np.atleast_1d(stated)]
