"""This module finds the last layers before a table of scores, one for each level and branch, and what boxes come from.

From the table it goes back through what only moves values, column by column (spans.py), and through operators without
weights, such as an activation or a product with an objectness. It stops where a layer with weights made the values:
these are logits. A table may have columns of boxes beside those of classes; only the columns of classes are followed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.differentiable_path import DifferentiablePath, active_inputs
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.detection.spans import Span, aligned, step_behind

_SPANS_PER_TENSOR = 20
"""At most this many parts of the columns of each tensor are followed, on average."""


@dataclass(frozen=True)
class LastLayers:
    """A LastLayers holds what lies at the end of a table of scores.

    Attributes:
        outputs: the outputs of the last layers with weights, in the order of the graph.
        passed: these outputs and all tensors between them and the table that hold values of it.
    """

    outputs: tuple[str, ...]
    passed: frozenset[str]


def last_layers(path: DifferentiablePath, score: str) -> LastLayers:
    """Return the last layers with weights before a table.

    Args:
        path: what lies between the picture and the table.
        score: the table.
    """
    ends, passed = _followed(path, [score], lambda node: traits(node).weighted)
    return LastLayers(tuple(sorted(ends, key=lambda name: path.graph.order.get(name, -1))), passed)


def made_from(path: DifferentiablePath, names: Collection[str]) -> frozenset[str]:
    """Return the tensors that some tensors are computed from, these among them, told apart column by column.

    Boxes that are split off a table which scores were joined to are not made from the layers of the scores.

    Args:
        path: what lies between the picture and the tensors.
        names: the tensors.
    """
    return _followed(path, names, lambda _: False)[1]


def _followed(
    path: DifferentiablePath, names: Collection[str], is_end: Callable[[gs.Node], bool]
) -> tuple[set[str], frozenset[str]]:
    """Return the tensors at which the ways back from some tensors end, and all tensors on these ways.

    Args:
        path: what lies between the picture and the tensors.
        names: the tensors.
        is_end: whether a way ends at what a node makes.
    """
    ends, seen, waiting = set[str](), set[Span](), [Span(name) for name in names]
    while waiting:
        at = waiting.pop()
        if len(seen) > _SPANS_PER_TENSOR * len(path.tensors):
            at = Span(at.name)  # columns that are divided again and again are not told apart
        if at in seen or Span(at.name) in seen or at.name not in path.tensors:
            continue
        seen.add(at)
        node = path.graph.producer.get(at.name)
        if node is None or is_end(node):
            ends.add(at.name)
        else:
            waiting += _behind(path.graph, node, at)
    return ends, frozenset(at.name for at in seen)


def _behind(graph: Graph, node: gs.Node, at: Span) -> Iterator[Span]:
    """Yield what some columns that a node without weights makes are computed from."""
    step = step_behind(graph, at)
    if step is not None:
        yield from step.sources
        return
    by_element = traits(node).elementwise == "all"
    for name in active_inputs(node):
        yield (aligned(graph, at, name) if by_element else None) or Span(name)
