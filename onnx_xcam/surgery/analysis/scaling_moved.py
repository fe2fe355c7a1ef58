"""This module tells how values that are moved, cut out, joined or resized are scaled, channel by channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.picked_positions import positions
from onnx_xcam.surgery.analysis.scaled import Scaled
from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits


def moved(graph: Graph, node: gs.Node, at: Scaled, output: int) -> Scaled | None:
    """Return how an output of a node that moves values is scaled; None if channels that differ are mixed up."""
    facts = traits(node)
    shapes = graph.shape(node.inputs[0].name), graph.shape(node.outputs[output].name)
    if facts.values is Values.COPIED or at.axis is None:
        return at
    if facts.values is Values.RESHAPED:
        axis = _axis_after_reshape(*shapes, at.axis)
        return at.without_axis() if axis is None else replace(at, axis=axis)
    if facts.axes == "transposed" and shapes[0] is not None:
        order = node.attrs.get("perm") or list(range(len(shapes[0])))[::-1]
        return replace(at, axis=list(order).index(at.axis))
    if facts.axes in ("cut", "gathered"):
        return _cut(graph, node, at, output)
    return at.without_axis()


def _axis_after_reshape(before: Sequence[Dim] | None, after: Sequence[Dim] | None, axis: int) -> int | None:
    """Return where an axis is after a reshape that only adds or drops axes of length 1; None after any other."""
    if before is None or after is None or before[axis] == 1:
        return None
    kept = [[place for place, dim in enumerate(shape) if dim != 1] for shape in (before, after)]
    dims = [[shape[place] for place in places] for shape, places in zip((before, after), kept, strict=True)]
    if dims[0] != dims[1] or dims[0].count(None) > 1:
        return None
    return kept[1][kept[0].index(axis)]


def _cut(graph: Graph, node: gs.Node, at: Scaled, output: int) -> Scaled | None:
    """Return how a part of a tensor is scaled: the channels that a Slice, a Split or a Gather takes."""
    taken = positions(graph, node, output)
    before, after = (graph.shape(one.name) for one in (node.inputs[0], node.outputs[output]))
    if taken is None or before is None or after is None:
        return at.without_axis()
    channels = taken.get(at.axis) if at.axis in taken else np.arange(len(at.factor))
    if channels is None or len(channels) == 0:
        return at.without_axis()
    part = at.picked(channels)
    if len(after) == len(before):
        return part
    if len(after) == len(before) - 1 and len(taken) == 1:  # an index in place of an axis
        (dropped,) = taken
        if dropped == at.axis:
            return replace(part, axis=None)
        return replace(part, axis=at.axis - (dropped < at.axis))  # type: ignore[operator]
    return part.without_axis()


def joined(graph: Graph, node: gs.Node, pieces: list[Scaled]) -> Scaled | None:
    """Return how the pieces that a Concat joins are scaled together; None where they do not fit to each other."""
    shape = graph.shape(node.outputs[0].name)
    if shape is None or any(piece.quantised for piece in pieces):
        return None
    axis = int(node.attrs.get("axis", 0)) % len(shape)
    limits = max(piece.limits[0] for piece in pieces), min(piece.limits[1] for piece in pieces)
    along = [piece for piece in pieces if piece.axis == axis or (piece.axis is None and piece.source is not None)]
    factor, shift = (np.concatenate([getattr(piece, part) for piece in pieces]) for part in ("factor", "shift"))
    if len(along) == len(pieces) and shape[axis] == len(factor):
        sources = [piece.source for piece in pieces]
        known = [source for source in sources if source is not None]
        source = np.concatenate(known) if len(known) == len(sources) else None
        return Scaled(axis, factor, shift, source, limits, before=_common(pieces))
    alike = all(
        piece.axis == pieces[0].axis
        and np.array_equal(piece.factor, pieces[0].factor)
        and np.array_equal(piece.shift, pieces[0].shift)
        for piece in pieces
    )
    return replace(pieces[0], limits=limits, source=None) if alike and pieces[0].axis != axis else None


def _common(pieces: Sequence[Scaled]) -> Scaled | None:
    """Return what all pieces were cut from, if nothing changed their values since: the steps before remain known."""
    first = pieces[0].before
    return first if all(piece.before is first for piece in pieces) else None


def if_channels_stay(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling as it is for a node that changes height and width alone."""
    shape = graph.shape(node.outputs[0].name)
    if at.axis is None or shape is None or shape[at.axis] != len(at.factor):
        return at.without_axis()
    return at
