"""This module follows a picture from a model's input on, as long as the graph only moves and scales its values.

Operators that move values, per-channel arithmetic with constants, kernels of one pixel that mix no channels, Clip,
Resize, Pad and pairs of quantisers are followed; where any other node reads the picture, the network begins.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.contract import picture_sides
from onnx_xcam.surgery.analysis import scaling_computed as rules
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.analysis.scaled import MOST_CHANNELS, Scaled
from onnx_xcam.surgery.analysis.scaling_moved import if_channels_stay, joined, moved
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Affine, OpTraits, Values
from onnx_xcam.surgery.ir.op_traits import traits

_Rule = Callable[[Graph, gs.Node, Scaled], Scaled | None]
"""A function of this type returns the scaling of a node's first output."""
_RULES: tuple[tuple[Callable[[Scaled, OpTraits], bool], _Rule], ...] = (
    (lambda at, op: at.quantised is not None, rules.given_back),
    (lambda at, op: op.quantises_as_told, rules.quantised),
    (lambda at, op: op.dequantises, rules.dequantised),
    (lambda at, op: op.casts, rules.cast),
    (lambda at, op: op.clips, rules.clipped),
    (lambda at, op: op.axes in ("padded", "rescaled", "centred"), if_channels_stay),
    (lambda at, op: op.weighted and op.linear and op.axes == "windowed", rules.of_pixels),
    (lambda at, op: op.elementwise is not None and op.affine is not Affine.NONE, rules.computed),
)
"""The kinds of operators that are followed beside those that move values, the first that applies."""


def scaling(graph: Graph, name: str) -> list[Scaled]:
    """Return how the values of a picture input have been scaled wherever the network begins to work with them.

    Returns:
        One entry for each node that reads the picture, as it is or scaled, and does more than to scale it: what it
        gets. Nodes that no output depends on do not count, nor does one that reads the picture's shape alone.
    """
    start = _start(graph, name)
    if start is None:
        return []
    known, found = {name: start}, []
    for position in backward(graph.uses, graph.output_names).positions:
        node = graph.nodes[position]
        read = [one for one in dict.fromkeys(graph.uses.reads[position]) if one in known]
        if not read or traits(node).axes == "made":  # the shape alone
            continue
        results = _after(graph, node, known)
        if any(result is None for result in results):
            found += [_at_network(graph, node, known[one]) for one in read]
        known.update(
            (tensor.name, result) for tensor, result in zip(node.outputs, results, strict=True) if result is not None
        )
    return found


def _start(graph: Graph, name: str) -> Scaled | None:
    """Return how the values are at a picture input: x itself; None for another input."""
    shape = graph.shape(name)
    sides = None if shape is None else picture_sides(shape)
    if shape is None or sides is None:
        return None
    axis = next(axis for axis in (1, 3, 0) if axis < len(shape) and axis not in sides)
    channels = shape[axis] if isinstance(shape[axis], int) else 3
    if not isinstance(channels, int) or not 0 < channels <= MOST_CHANNELS:
        return None
    return Scaled(axis, np.ones(channels), np.zeros(channels), np.arange(channels))


def _after(graph: Graph, node: gs.Node, known: dict[str, Scaled]) -> list[Scaled | None]:
    """Return how the values of each output of a node follow from the picture; None where they do not, or not so."""
    facts, names = traits(node), [str(tensor.name) for tensor in node.inputs]
    nothing: list[Scaled | None] = [None] * len(node.outputs)
    pieces = [known[name] for name in names if name in known]
    if facts.axes == "concatenated" and len(pieces) == len(names):
        return [joined(graph, node, pieces)]
    if len(pieces) != 1 or facts.control_flow or (names[0] not in known and facts.elementwise != "all"):
        return nothing
    if facts.values <= Values.PICKED:
        return [moved(graph, node, pieces[0], index) for index in range(len(node.outputs))]
    for applies, rule in _RULES:
        if applies(pieces[0], facts):
            return [rule(graph, node, pieces[0]), *nothing[1:]]
    return nothing


def _at_network(graph: Graph, node: gs.Node, at: Scaled) -> Scaled:
    """Return what a node gets with which the network begins; of a BatchNormalization what its statistics make of it.

    They are the mean and the deviation that the picture had in training, whatever the learned weights do then.
    """
    facts = traits(node)
    if facts.axes != "per channel" or not facts.same_place or at.axis != 1:
        return at
    mean, variance = (graph.constants.get(tensor.name) for tensor in node.inputs[3:5])
    if mean is None or variance is None or mean.shape != at.factor.shape or variance.shape != at.factor.shape:
        return at
    deviation = np.sqrt(np.maximum(variance.astype(np.float64), 0) + float(node.attrs.get("epsilon", 1e-5)))
    return at.changed(at.factor / deviation, (at.shift - mean.astype(np.float64)) / deviation, learned=True)
