"""This module follows columns of a table back through nodes that only move values, to the nodes that computed these.

A detector joins what its levels and branches compute: by Concat, Transpose, Reshape, Slice, Gather, TopK. Where a
column comes from says what it is: of each level, a part of what its last layer gives, or a sigmoid makes of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard

_STEPS = 1000
"""At most this many nodes are followed for one table."""
_PICKS = frozenset({"Compress", "Gather", "GatherElements", "GatherND", "TopK"})
"""These operators pick rows by what they are told in a run, unless that is constant; the place is their last input."""


@dataclass(frozen=True)
class Span:
    """A Span stands for some positions of one axis of a tensor.

    Attributes:
        name: the tensor.
        axis: the axis, None for the whole tensor.
        start: the first position.
        stop: the position after the last.
    """

    name: str
    axis: int | None = None
    start: int = 0
    stop: int = 0

    @property
    def count(self) -> int:
        """Return the number of positions."""
        return self.stop - self.start

    def part(self, start: int, stop: int) -> Span:
        """Return the columns `start` to `stop`, counted from the first of these."""
        return replace(self, start=self.start + start, stop=self.start + stop)


def span(graph: Graph, name: str, axis: int) -> Span:
    """Return all positions of an axis, whose length must be known."""
    shape = graph.shape(name) or ()
    length = shape[axis]
    assert isinstance(length, int)
    return Span(name, axis % len(shape), 0, length)


def aligned(graph: Graph, given: Span, name: str) -> Span | None:
    """Return the span of a tensor that meets a span of the result by broadcasting; None if its shape is unknown."""
    shape, result = graph.shape(name), graph.shape(given.name)
    if shape is None or result is None:
        return None
    axis = None if given.axis is None else given.axis - len(result) + len(shape)
    if axis is None or axis < 0 or shape[axis] == 1:
        return Span(name)
    return Span(name, axis, given.start, given.stop)


def is_fixed(graph: Graph, name: str) -> bool:
    """Tell whether a tensor is stored in the file, perhaps in a Constant node too large to be folded."""
    node = graph.producer.get(name)
    return graph.is_constant(name) or (node is not None and not node.inputs)


@dataclass(frozen=True)
class Step:
    """A Step is a node that only moves values, seen from some columns of its result.

    Attributes:
        sources: where these columns come from.
        joined: whether the sources are parts of the columns, one behind another.
    """

    sources: tuple[Span, ...]
    joined: bool = False


def step_behind(graph: Graph, given: Span) -> Step | None:
    """Return the movement that makes some columns; None where their values are computed, or nothing is known of it."""
    node = graph.producer.get(given.name)
    if node is None or not is_standard(node.domain):
        return None
    facts = traits(node)
    if facts.values == Values.RESHAPED:
        return _reshaped(graph, node, given)
    if facts.values == Values.COPIED or facts.casts or facts.quantises_as_told or facts.dequantises:
        source = str(node.inputs[0].name)
        carries = graph.is_float(source) or source in graph.quantised
        return Step((replace(given, name=source),)) if carries else None
    known = _expanded if facts.values == Values.REPEATED else _MOVEMENTS.get(str(node.op))
    if known is not None:
        return known(graph, node, given)
    return Step((Span(str(node.inputs[0].name)),)) if facts.values == Values.PICKED else None


def origins(graph: Graph, given: Span) -> list[Span]:
    """Return the columns that some columns consist of, before all movements, in the order of the positions."""
    return list(_origins(graph, given, [0]))


def _origins(graph: Graph, given: Span, count: list[int]) -> Iterator[Span]:
    """Yield what `origins` returns; `count` is the number of nodes so far."""
    count[0] += 1
    step = step_behind(graph, given) if count[0] < _STEPS else None
    if step is None:
        yield given
        return
    for source in step.sources:
        yield from _origins(graph, source, count)


def passed(graph: Graph, given: Span) -> Iterator[str]:
    """Yield the names of the tensors through which columns come from their origins, and those of the origins."""
    waiting, count = [given], 0
    while waiting and (count := count + 1) < _STEPS:
        one = waiting.pop()
        yield one.name
        step = step_behind(graph, one)
        waiting += step.sources if step is not None else ()


def is_picked(graph: Graph, given: Span) -> bool:
    """Tell whether columns are of rows that were picked in a run, as TopK and NonMaxSuppression have them picked."""
    return _is_picked(graph, given, [0])


def _is_picked(graph: Graph, given: Span, count: list[int]) -> bool:
    """Tell what `is_picked` tells; `count` is the number of nodes so far."""
    count[0] += 1
    step = step_behind(graph, given) if count[0] < _STEPS else None
    if step is None:
        return False
    node = graph.producer[given.name]
    if node.op in _PICKS and (node.op == "TopK" or not graph.is_constant(node.inputs[-1].name)):
        return True
    return any(_is_picked(graph, source, count) for source in step.sources)


@dataclass(frozen=True)
class Run:
    """A Run is a longest part of columns that come from the same nodes.

    Attributes:
        start: the first position, counted in the columns that were divided.
        stop: the position after the last.
        origins: where its values are computed: one for each level, image or other part along the other axes.
    """

    start: int
    stop: int
    origins: tuple[Span, ...]


def runs(graph: Graph, given: Span) -> list[Run]:
    """Divide columns where they stop to come from the same nodes, and return the parts in order."""
    return _runs(graph, given, [0])


def _runs(graph: Graph, given: Span, count: list[int]) -> list[Run]:
    """Return what `runs` returns; `count` is the number of nodes so far."""
    count[0] += 1
    step = step_behind(graph, given) if count[0] < _STEPS else None
    if step is None or any(source.axis is None for source in step.sources):
        return [Run(0, given.count, (given,))] if step is None else [Run(0, given.count, tuple(step.sources))]
    parts = [_runs(graph, source, count) for source in step.sources]
    if step.joined:
        result, offset = [], 0
        for part in parts:
            result += [Run(offset + run.start, offset + run.stop, run.origins) for run in part]
            offset = result[-1].stop
        return result
    marks = sorted({mark for part in parts for run in part for mark in (run.start, run.stop)})
    return [
        Run(start, stop, tuple(one for part in parts for one in _cut(part, start, stop)))
        for start, stop in pairwise(marks)
    ]


def _cut(part: Sequence[Run], start: int, stop: int) -> Iterator[Span]:
    """Yield where positions `start` to `stop` come from, which lie within one run."""
    for run in part:
        if run.start <= start and stop <= run.stop:
            for one in run.origins:
                yield one if one.axis is None else one.part(start - run.start, stop - run.start)


# --- the movements ----------------------------------------------------------------------------------------------------


def _transposed(graph: Graph, node: gs.Node, given: Span) -> Step:
    """Return the movement of a Transpose."""
    rank = len(graph.shape(given.name) or ())
    perm = [int(axis) for axis in node.attrs.get("perm", range(rank)[::-1])]
    axis = None if given.axis is None else perm[given.axis]
    return Step((replace(given, name=str(node.inputs[0].name), axis=axis),))


def _concatenated(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a Concat."""
    axis = int(node.attrs["axis"]) % len(graph.shape(given.name) or (0,))
    names = [str(tensor.name) for tensor in node.inputs]
    if axis != given.axis:
        return Step(tuple(replace(given, name=name) for name in names))
    sources, offset = [], 0
    for name in names:
        length = _length(graph, name, axis)
        if length is None:
            return None
        start, stop = max(given.start, offset), min(given.stop, offset + length)
        if start < stop:
            sources.append(replace(given, name=name, start=start - offset, stop=stop - offset))
        offset += length
    return Step(tuple(sources), joined=True)


def _length(graph: Graph, name: str, axis: int | None) -> int | None:
    """Return the length of an axis of a tensor, None if it is not a number."""
    shape = graph.shape(name)
    length = None if shape is None or axis is None or axis >= len(shape) else shape[axis]
    return length if isinstance(length, int) else None


def _along(graph: Graph, given: Span, axis: int | None) -> Span:
    """Return a whole tensor as all positions of an axis, if its length is known; a span of an axis as it is."""
    length = _length(graph, given.name, axis)
    return given if given.axis is not None or length is None else Span(given.name, axis, 0, length)


def _sliced(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a Slice with constant bounds."""
    source = str(node.inputs[0].name)
    found = _bounds(graph, node, len(graph.shape(source) or ()))
    if found is None:
        return None
    given, shift = _along(graph, given, found[0][1] if found[0][2] == 1 else None), 0
    for start, axis, step in found:
        if axis == given.axis:
            length = _length(graph, source, axis)
            if step != 1 or length is None:
                return None
            shift = range(length)[start:].start
    return Step((replace(given, name=source, start=given.start + shift, stop=given.stop + shift),))


def _bounds(graph: Graph, node: gs.Node, rank: int) -> list[tuple[int, int, int]] | None:
    """Return start, axis and step of each axis that a Slice cuts; None if they are not constant, as its ends may be."""
    listed = [node.attrs.get(key) for key in ("starts", "ends", "axes", "steps")]
    for position, tensor in enumerate(node.inputs[1:]):
        if tensor.name:
            known = graph.constants.get(tensor.name)
            if known is None and position != 1:
                return None
            listed[position] = None if known is None else known.reshape(-1).tolist()
    starts, _, axes, steps = listed
    if not starts:
        return None
    axes = [int(axis) % rank for axis in (range(len(starts)) if axes is None else axes)]
    return list(zip(map(int, starts), axes, map(int, [1] * len(starts) if steps is None else steps), strict=True))


def _split(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a Split: its output is a slice."""
    source = str(node.inputs[0].name)
    axis = int(node.attrs.get("axis", 0)) % len(graph.shape(source) or (0,))
    names = [str(out.name) for out in node.outputs]
    before = [_length(graph, name, axis) for name in names[: names.index(given.name)]]
    given = _along(graph, given, axis)
    if axis != given.axis:
        return Step((replace(given, name=source),))
    if any(length is None for length in before):
        return None
    offset = sum(length for length in before if length is not None)
    return Step((replace(given, name=source, start=given.start + offset, stop=given.stop + offset),))


def _gathered(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a Gather."""
    source, chosen = (str(tensor.name) for tensor in node.inputs)
    rank, places = len(graph.shape(source) or ()), graph.shape(chosen)
    if places is None or not rank:
        return None
    axis, known = int(node.attrs.get("axis", 0)) % rank, graph.constants.get(chosen)
    if given.axis is None and known is not None and known.size == 1:
        start = int(known.reshape(())) % (_length(graph, source, axis) or 1)
        return Step((Span(source, axis, start, start + 1),))
    if given.axis is None or not axis <= given.axis < axis + len(places):
        moved = given.axis if given.axis is None or given.axis < axis else given.axis - len(places) + 1
        return Step((replace(given, name=source, axis=moved),))
    if known is None or known.ndim != 1:
        return None
    wanted = known[given.start : given.stop].tolist()
    if wanted != list(range(wanted[0], wanted[0] + len(wanted))) or wanted[0] < 0:
        return None
    return Step((replace(given, name=source, start=wanted[0], stop=wanted[-1] + 1),))


def _gathered_elements(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a GatherElements."""
    return _picked(graph, str(node.inputs[0].name), int(node.attrs.get("axis", 0)), given)


def _best(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a TopK, whose first output holds values of its input."""
    if given.name != node.outputs[0].name:
        return None
    return _picked(graph, str(node.inputs[0].name), int(node.attrs.get("axis", -1)), given)


def _largest(_: Graph, node: gs.Node, __: Span) -> Step:
    """Return the movement of a ReduceMax, which picks the largest values."""
    return Step((Span(str(node.inputs[0].name)),))


def _picked(graph: Graph, source: str, axis: int, given: Span) -> Step | None:
    """Return the movement of elements that are picked along an axis."""
    shape = graph.shape(source)
    if shape is None:
        return None
    return Step((Span(source) if given.axis == axis % len(shape) else replace(given, name=source),))


def _reshaped(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of an operator that gives a tensor another shape."""
    source = str(node.inputs[0].name)
    before, after = graph.shape(source), graph.shape(given.name)
    if before is None or after is None:
        return None
    axis = None if given.axis is None else same_axis(before, after, given.axis)
    if axis is None and given.axis == len(after) - 1 and (rows := _filled_up(graph, source, after[-1])) is not None:
        return Step((replace(given, name=rows, axis=len(graph.shape(rows) or ()) - 1),))
    return Step((Span(source) if axis is None else replace(given, name=source, axis=axis),))


def _filled_up(graph: Graph, name: str, columns: Dim) -> str | None:
    """Return the table whose rows a list holds, with numbers added behind them; None if it is no such list."""
    pad = graph.producer.get(name)
    flat = None if pad is None or traits(pad).axes != "padded" else graph.producer.get(str(pad.inputs[0].name))
    if flat is None or traits(flat).values != Values.RESHAPED or len(graph.shape(name) or ()) != 1:
        return None
    source = str(flat.inputs[0].name)
    return source if (graph.shape(source) or (None,))[-1] == columns else None


def _expanded(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of an operator that repeats values along other axes than that of the columns."""
    source = str(node.inputs[0].name)
    before, after = graph.shape(source), graph.shape(given.name)
    if given.axis is None or before is None or after is None or traits(node).axes != "kept":
        return None
    axis = given.axis - len(after) + len(before)
    if axis >= 0 and isinstance(before[axis], str) and (rows := _filled_rows(graph, source, after[given.axis])):
        return Step((replace(given, name=rows, axis=len(graph.shape(rows) or ()) - 1),))
    same = axis >= 0 and before[axis] is not None and before[axis] == after[given.axis]
    return Step((replace(given, name=source, axis=axis),)) if same else None


def _filled_rows(graph: Graph, name: str, columns: Dim) -> str | None:
    """Return the table of so many columns whose rows a reshaped list holds, as `_filled_up`; None if it is none."""
    node = graph.producer.get(name)
    if node is None or traits(node).values != Values.RESHAPED:
        return None
    return _filled_up(graph, str(node.inputs[0].name), columns)


def _scattered(graph: Graph, node: gs.Node, given: Span) -> Step | None:
    """Return the movement of a ScatterND that writes slices, as of whole images, into a table of constants."""
    data, places, updates = (str(tensor.name) for tensor in node.inputs)
    at, rank = graph.shape(places), len(graph.shape(data) or ())
    if at is None or not isinstance(at[-1], int):
        return None
    axis = None if given.axis is None else given.axis - at[-1] + len(at) - 1
    if axis is not None and (given.axis is None or given.axis < at[-1] or rank == 0):
        return None
    written = replace(given, name=updates, axis=axis)
    return Step((written,) if is_fixed(graph, data) else (replace(given, name=data), written))


def same_axis(before: Shape, after: Shape, axis: int) -> int | None:
    """Return the axis of a shape whose positions are those of one axis of the shape that it is given; None if none is.

    An axis stays where as many elements lie before it as before, or as many behind it.
    """
    for candidate, length in enumerate(before):
        if length is None or length != after[axis]:
            continue
        in_front = _product(before[:candidate]), _product(after[:axis])
        behind = _product(before[candidate + 1 :]), _product(after[axis + 1 :])
        if any(first is not None and first == second for first, second in (in_front, behind)):
            return candidate
    return None


def _product(dims: Shape) -> tuple[int, tuple[str, ...]] | None:
    """Return a product of dimensions as a number and symbols; None if a dimension is unknown."""
    if any(dim is None for dim in dims):
        return None
    symbols = sorted(dim for dim in dims if isinstance(dim, str))
    return prod(dim for dim in dims if isinstance(dim, int)), tuple(symbols)


_Movement: TypeAlias = Callable[[Graph, gs.Node, Span], Step | None]
_MOVEMENTS: Mapping[str, _Movement] = {
    "Concat": _concatenated,
    "Gather": _gathered,
    "GatherElements": _gathered_elements,
    "ReduceMax": _largest,
    "ScatterND": _scattered,
    "Slice": _sliced,
    "Split": _split,
    "TopK": _best,
    "Transpose": _transposed,
}
"""This table maps an operator to the function that follows columns through it; traits tell the reshaping ones."""
