"""This module decides by the structure of a graph whether the scores of candidates are differentiated in windows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from onnx_xcam.surgery.analysis.differentiable_path import DifferentiablePath, differentiable_path
from onnx_xcam.surgery.analysis.reachability import forward
from onnx_xcam.surgery.autodiff.local.forms import Axis, Form, Reach, form_behind, of_layer, operands, reach_of
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.rules import RULES


@dataclass(frozen=True)
class Source:
    """A Source is a layer from which the scores are made.

    Attributes:
        name: the tensor.
        layout: what its axes mean, four letters.
    """

    name: str
    layout: str


@dataclass(frozen=True)
class Join:
    """A Join is a tensor whose candidates are the places of one level, or of several behind each other.

    Attributes:
        name: the tensor.
        axis: the axis of the candidates.
        parts: the tensors of the levels, in order; the tensor itself if there is only one level.
        places: for each part, the atoms of its axis of places.
        levels: for each part, the number of its layer.
    """

    name: str
    axis: int
    parts: tuple[str, ...]
    places: tuple[Axis, ...]
    levels: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        """Tell whether it is one level, to which nothing is joined."""
        return self.parts == (self.name,)


@dataclass(frozen=True)
class Plan:
    """A Plan says how the scores of candidates are differentiated in windows.

    Attributes:
        sources: the layers, by the numbers of their levels.
        forms: the forms of all tensors whose places are known, by name.
        joins: where the candidates of all levels are joined; all in the same order.
        reach: how far the windows of each level reach.
        path: what is differentiated.
    """

    sources: tuple[Source, ...]
    forms: Mapping[str, Form]
    joins: Mapping[str, Join]
    reach: tuple[Reach, ...]
    path: DifferentiablePath


def planned(graph: Graph, scores: str, sources: Sequence[Source]) -> Plan | None:
    """Return how a table of candidates is differentiated in windows, with respect to some layers.

    Args:
        graph: the model.
        scores: the table, `[N, Q, C]`.
        sources: the layers; no gradient passes through one to another.

    Returns:
        The plan; None where a step between mixes positions that are far apart or in a way that is not known, where a
        layer contributes nothing, or where windows would not be smaller than the levels.
    """
    names = [source.name for source in sources]
    path = differentiable_path(graph, names, [scores], names)
    if not path.tensors.issuperset(names) or any(not is_standard(n.domain) or n.op not in RULES for n in path.nodes):
        return None
    forms = _forms(graph, sources)
    if forms is None or any(name not in forms for name in path.tensors):
        return None
    joins = _joins(graph, path, forms, scores)
    if joins is None:
        return None
    reached = _reach(graph, path, names)
    reach = tuple(reached[name] for name in names)
    plan = Plan(tuple(sources), forms, joins, reach, path)
    return plan if _pays(plan, graph) else None


def _forms(graph: Graph, sources: Sequence[Source]) -> dict[str, Form] | None:
    """Return the forms of the layers and of all tensors behind them that have one; None if a layer has none."""
    forms: dict[str, Form] = {}
    for level, source in enumerate(sources):
        form = of_layer(source.layout, graph.shape(source.name) or (), level)
        if form is None:
            return None
        forms[source.name] = form
    given = frozenset(forms)
    for node in forward(graph.uses, given).nodes:
        if traits(node).elementwise == "all" and any(str(tensor.name) in forms for tensor in node.inputs):
            forms |= operands(graph, node, forms)
        for out in node.outputs:
            if out.name and out.name not in given:
                form = form_behind(graph, node, forms, str(out.name))
                if form is not None:
                    forms[str(out.name)] = form
    return forms


def _joins(graph: Graph, path: DifferentiablePath, forms: Mapping[str, Form], scores: str) -> dict[str, Join] | None:
    """Return where levels are joined, by the joined tensor; None if candidates of two joins are not the same ones."""
    joins: dict[str, Join] = {}
    for node in path.nodes:
        name = str(node.outputs[0].name)
        parts = tuple(str(tensor.name) for tensor in node.inputs)
        if forms[name].level is None and all(part in forms and forms[part].level is not None for part in parts):
            joins[name] = _join(name, parts, forms, forms[name].places[0])
    if not joins and len(forms[scores].places) == 1:
        joins[scores] = _join(scores, (scores,), forms, forms[scores].places[0])
    orders = {(join.places, join.levels) for join in joins.values()}
    return joins if len(orders) == 1 and forms[scores].places == [1] else None


def _join(name: str, parts: tuple[str, ...], forms: Mapping[str, Form], axis: int) -> Join:
    """Return the Join of these parts."""
    places = tuple(forms[part].axes[axis] for part in parts)
    levels = tuple(level for part in parts if (level := forms[part].level) is not None)
    return Join(name, axis, parts, places, levels)


def _reach(graph: Graph, path: DifferentiablePath, names: Collection[str]) -> dict[str, Reach]:
    """Return how far the windows of tensors on the path reach around the place of a score."""
    reach: dict[str, Reach] = {}
    for node in reversed(path.nodes):
        behind = Reach()
        for out in node.outputs:
            behind |= reach.get(str(out.name), Reach())
        own = reach_of(graph, node) if spreads(node) else None
        for tensor in node.inputs:
            if tensor.name in path.tensors:
                reach[str(tensor.name)] = reach.get(str(tensor.name), Reach()) | (behind + (own or Reach()))
    return {name: reach.get(name, Reach()) for name in {*reach, *names}}


def spreads(node: object) -> bool:
    """Tell whether a node has windows of more than one position."""
    return traits(node).axes == "windowed"


def _pays(plan: Plan, graph: Graph) -> bool:
    """Tell whether the windows are smaller than the levels, as far as these are known."""
    windows = whole = 0
    for source, reach in zip(plan.sources, plan.reach, strict=True):
        shape = graph.shape(source.name) or ()
        sides = [shape[source.layout.find(axis)] for axis in "HW"]
        known = [side for side in sides if isinstance(side, int)]
        if len(known) < len(sides):
            return True
        windows, whole = windows + prod(reach.size), whole + prod(known)
    return windows < whole
