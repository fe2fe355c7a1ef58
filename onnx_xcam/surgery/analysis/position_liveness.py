"""This module finds which positions of each axis of a tensor the score uses.

A classifier that reads its class token uses one position of the last block's output, whatever attention gathered
there; a gradient exists at that position only. This is found backwards from the score, operator by operator: a cut
uses what it takes, an operator that works position by position uses the positions that are used of its output, and
everything that mixes positions (attention, convolution, a mean) uses them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.differentiable_path import DifferentiablePath, active_inputs
from onnx_xcam.surgery.analysis.picked_positions import ints, positions
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import AxisEffect, Values
from onnx_xcam.surgery.ir.op_traits import traits

Used: TypeAlias = "np.ndarray | None"
"""The positions used along one axis: bool `[dim]`, or None for all positions (or where it is not known).

On an axis of unknown length, bool `[period]`, repeated: a list of all images' tokens uses the same ones of each image.
"""

_MOST_POSITIONS = 1 << 22
"""If there are more positions than this, all are taken to be used."""


def used_positions(graph: Graph, path: DifferentiablePath) -> dict[str, list[Used]]:
    """Return the used positions of each axis, for each tensor on the path that the score uses only partly."""
    sweep = _Sweep(graph, path)
    for node in reversed(path.nodes):
        with Diagnosed(node):
            sweep.step(node)
    return {name: axes for name, axes in sweep.used.items() if any(axis is not None for axis in axes)}


def _either(a: list[Used], b: list[Used]) -> list[Used]:
    """Return the positions that are used in one of two ways, axis by axis."""
    return [None if x is None or y is None or len(x) != len(y) else _some(x | y) for x, y in zip(a, b, strict=True)]


def _some(used: np.ndarray) -> Used:
    """Return the used positions of an axis, or None if all are used."""
    return None if used.all() else used


@dataclass(frozen=True)
class _View:
    """A _View is an input of a node (shape x) with an output (shape y), and the used positions of that output."""

    graph: Graph
    node: gs.Node
    index: int
    output: int
    x: Shape
    y: Shape
    used: list[Used]


class _Sweep:
    """A _Sweep goes backwards through the path and collects the used positions of each tensor."""

    def __init__(self, graph: Graph, path: DifferentiablePath) -> None:
        self.graph = graph
        self.path = path
        self.used: dict[str, list[Used]] = {}

    def step(self, node: gs.Node) -> None:
        """Add the positions that a node uses of its inputs."""
        active = set(active_inputs(node))
        for index, tensor in enumerate(node.inputs):
            shape = self.graph.shape(tensor.name)
            if shape is None or tensor.name not in self.path.tensors or tensor.name not in active:
                continue
            used = self._by_node(node, index, shape)
            known = self.used.get(tensor.name)
            self.used[tensor.name] = used if known is None else _either(known, used)

    def _by_node(self, node: gs.Node, index: int, shape: Shape) -> list[Used]:
        """Return the positions that a node uses of its input at `index`."""
        every: list[Used] = [None] * len(shape)
        rule = _rule(node)
        if rule is None or (index and rule not in _SEVERAL_INPUTS):
            return every
        result: list[Used] | None = None
        for output, out in enumerate(node.outputs):
            if out.name not in self.path.tensors:
                continue
            of_output = self.graph.shape(out.name)
            if of_output is None:
                return every
            used = self.used.get(out.name) or [None] * len(of_output)
            of_input = rule(_View(self.graph, node, index, output, shape, of_output, used))
            if len(of_input) != len(shape):
                return every
            result = of_input if result is None else _either(result, of_input)
        return result or every


_Rule: TypeAlias = Callable[[_View], "list[Used]"]
"""A rule returns the positions that a node uses of an input, or nothing if it does not apply."""


def _same_place(v: _View) -> list[Used]:
    """Return the used positions of an elementwise operator; an axis that is broadcast uses its one position."""
    if len(v.x) > len(v.y):
        return []
    last = v.used[len(v.y) - len(v.x) :], v.y[len(v.y) - len(v.x) :]
    same = [isinstance(dim, str) and dim == after for dim, after in zip(v.x, last[1], strict=True)]
    return [used if alike else _fitting(used, dim) for used, dim, alike in zip(last[0], v.x, same, strict=True)]


def _fitting(used: Used, dim: Dim) -> Used:
    """Return the used positions if they fit an axis of this length, else None for all."""
    return used if used is not None and len(used) == dim else None


def _same_but_last(v: _View) -> list[Used]:
    """Return the used positions of an operator along an axis, such as Softmax, which uses that axis as a whole."""
    facts = traits(v.node)
    axis = int(v.node.attrs.get("axis", facts.default_axis)) % len(v.x)
    kept = range(axis) if facts.axes == "first kept" else [a for a in range(len(v.x)) if a != axis]
    return [_fitting(v.used[a], v.x[a]) if a in kept else None for a in range(len(v.x))]


def _transpose(v: _View) -> list[Used]:
    """Return the used positions of a Transpose."""
    perm = v.node.attrs.get("perm") or list(range(len(v.x)))[::-1]
    result: list[Used] = [None] * len(v.x)
    for to, axis in enumerate(perm):
        result[axis] = v.used[to]
    return result


def _cut(v: _View) -> list[Used]:
    """Return the used positions of a Slice, Split or Gather: those that are taken to used positions."""
    taken = positions(v.graph, v.node, v.output)
    if taken is None:
        return []
    scalar = traits(v.node).axes == "gathered" and len(v.y) == len(v.x) - 1
    if not scalar and len(v.y) != len(v.x):
        return []
    result, behind = [], list(v.used)
    if scalar:
        behind.insert(next(iter(taken)), None)
    for axis, dim in enumerate(v.x):
        used, places = behind[axis], taken.get(axis)
        if axis not in taken:
            result.append(_fitting(used, dim))
        elif places is None or not isinstance(dim, int) or dim > _MOST_POSITIONS:
            result.append(None)
        else:
            marks = np.zeros(dim, bool)
            marks[places if used is None or len(used) != len(places) else places[used]] = True
            result.append(_some(marks))
    return result


def _concat(v: _View) -> list[Used]:
    """Return the used positions of one part of a Concat."""
    axis = int(v.node.attrs.get("axis", 1)) % len(v.x)
    result = [_fitting(used, dim) for used, dim in zip(v.used, v.x, strict=True)]
    whole, result[axis] = v.used[axis], None
    dims = [(v.graph.shape(t.name) or [None] * len(v.x))[axis] for t in v.node.inputs[: v.index + 1]]
    if whole is not None and all(isinstance(dim, int) for dim in dims):
        stop = sum(dims)  # type: ignore[arg-type]
        result[axis] = _some(whole[stop - dims[-1] : stop])  # type: ignore[operator]
    return result


def _reshape(v: _View) -> list[Used]:
    """Return the used positions of a Reshape: those of unchanged axes, and of split or merged axes of known size."""
    result: list[Used] = []
    for before, after in _groups(v.x, v.y):
        marks = [v.used[axis] for axis in after]
        old, new = _numbers(v.x, before), _numbers(v.y, after)
        if len(before) == len(after) == 1:
            result.append(_fitting(marks[0], v.x[before[0]]))
        elif all(mark is None for mark in marks):
            result += [None] * len(before)
        elif old is None or new is None or math.prod(new) > _MOST_POSITIONS:
            known = isinstance(v.x[before[0]], int) if before else True
            repeated = None if known else _repeated(marks, _numbers(v.y, after[1:]), _numbers(v.x, before[1:]))
            result += repeated or [None] * len(before)
        else:
            result += _projected(marks, new, old)
    return result


def _numbers(shape: Shape, axes: list[int]) -> list[int] | None:
    """Return the lengths of some axes, None if one is not a number."""
    dims = [dim for axis in axes if isinstance(dim := shape[axis], int)]
    return dims if len(dims) == len(axes) else None


def _projected(marks: list[Used], new: list[int], old: list[int]) -> list[Used]:
    """Return the used positions of each axis of the shape `old`, given those of `new` with the same elements."""
    grid: np.ndarray = np.ones(new, dtype=np.bool_)
    for i, mark in enumerate(marks):
        if mark is not None:
            grid = grid & mark.reshape([-1 if axis == i else 1 for axis in range(len(new))])
    grid = grid.reshape(old)
    others = [tuple(axis for axis in range(len(old)) if axis != i) for i in range(len(old))]
    return [_some(np.asarray(grid.any(axis=axes))) for axes in others]


def _repeated(marks: list[Used], new: list[int] | None, old: list[int] | None) -> list[Used] | None:
    """Return the used positions of each axis after a reshape if the length of the leading axes is not known.

    Args:
        marks: the used positions of the new axes.
        new, old: the lengths of the axes after the first, after and before the reshape.
    """
    if new is None or old is None or 0 in (*new, *old):
        return None
    period = 1 if marks[0] is None else len(marks[0])
    block = math.lcm(period * math.prod(new), math.prod(old))
    if block > _MOST_POSITIONS:
        return None
    times = block // (period * math.prod(new))
    leading = None if marks[0] is None else np.tile(marks[0], times)
    return _projected([leading, *marks[1:]], [period * times, *new], [block // math.prod(old), *old])


_Groups: TypeAlias = list[tuple[list[int], list[int]]]
"""Runs of axes before and after a reshape that hold the same elements."""


def _groups(x: Shape, y: Shape) -> _Groups:
    """Return the smallest runs of axes before and after a reshape that hold the same elements."""
    same = 0
    while same < min(len(x), len(y)) and x[-1 - same] is not None and x[-1 - same] == y[-1 - same]:
        same += 1
    end = [([len(x) - back], [len(y) - back]) for back in range(same, 0, -1)]
    return _leading_groups(x[: len(x) - same], y[: len(y) - same]) + end


def _leading_groups(x: Shape, y: Shape) -> _Groups:
    """Return the smallest runs of leading axes that hold the same elements; one run takes all after an unknown size."""
    groups: _Groups = []
    i = j = 0
    while i < len(x) and j < len(y):
        start, sizes = (i, j), [x[i], y[j]]
        i, j = i + 1, j + 1
        while sizes[0] != sizes[1] or sizes[0] is None:
            if not all(isinstance(size, int) for size in sizes) or (i == len(x) and j == len(y)):
                i, j = len(x), len(y)
                break
            if j == len(y) or (i < len(x) and sizes[0] < sizes[1]):  # type: ignore[operator]
                sizes[0], i = _times(sizes[0], x[i]), i + 1
            else:
                sizes[1], j = _times(sizes[1], y[j]), j + 1
        groups.append((list(range(start[0], i)), list(range(start[1], j))))
    return [*groups, (list(range(i, len(x))), list(range(j, len(y))))]


def _times(a: Dim, b: Dim) -> Dim:
    """Return the product of two dimensions, None if one is not a number."""
    return a * b if isinstance(a, int) and isinstance(b, int) else None


def _matmul(v: _View) -> list[Used]:
    """Return the used positions of a factor: its rows or columns as in the product, and all along the summed axis."""
    rank = len(v.x)
    if rank < 2 or len(v.y) < rank:
        return []
    lead = [_fitting(used, dim) for used, dim in zip(v.used[len(v.y) - rank : -2], v.x[:-2], strict=True)]
    if v.index == 0:
        return [*lead, _fitting(v.used[-2], v.x[-2]), None]
    return [*lead, None, _fitting(v.used[-1], v.x[-1])]


def _gemm(v: _View) -> list[Used]:
    """Return the used positions of a factor of a Gemm, which may be transposed."""
    turned = v.node.attrs.get("transB" if v.index else "transA", 0)
    used = [None, v.used[1]] if v.index else [v.used[0], None]
    return used[::-1] if turned else used


def _einsum(v: _View) -> list[Used]:
    """Return the used positions of an operand of an Einsum: all along the summed axes."""
    terms, _, result = str(v.node.attrs["equation"]).replace(" ", "").partition("->")
    term = terms.split(",")[v.index]
    if len(term) != len(v.x) or len(result) != len(v.y):
        return []
    return [v.used[result.index(letter)] if letter in result else None for letter in term]


def _reduce(v: _View) -> list[Used]:
    """Return the used positions of a reduction: all along the reduced axes."""
    axes = ints(v.graph, v.node, 1, "axes")
    if axes is None:
        return []
    gone = {axis % len(v.x) for axis in axes}
    left = iter(v.used if len(v.y) != len(v.x) else [u for a, u in enumerate(v.used) if a not in gone])
    return [None if axis in gone else next(left) for axis in range(len(v.x))]


_RULES: Mapping[AxisEffect, _Rule] = {
    "cut": _cut,
    "gathered": _cut,
    "dropped": _reduce,
    "transposed": _transpose,
    "concatenated": _concat,
    "matmul": _matmul,
    "gemm": _gemm,
    "einsum": _einsum,
}
"""This table maps what an operator does to axes to the rule that applies."""
_SEVERAL_INPUTS: Sequence[_Rule] = (_same_place, _concat, _matmul, _gemm, _einsum)
"""These rules apply to every input of a node, the others to the first one only."""


def _rule(node: gs.Node) -> _Rule | None:
    """Return the rule for a node, None if it uses every position of its inputs."""
    op = traits(node)
    if op.same_place and not node.attrs.get("training_mode", 0):
        return _same_place
    if op.values == Values.RESHAPED:
        return _reshape
    if op.along_axis and op.axes in ("kept", "first kept"):
        return _same_but_last
    return _RULES.get(op.axes)
