"""This module emits where the windows of chosen candidates lie, cuts forward tensors to them, and puts windows back.

A window has the same size for all candidates of a level: B = N K windows of every level. The candidates of other levels
have windows of this level too, at its first position, where all gradients are zero. Positions of a window outside the
picture hold what the nearest position inside holds; gradients are zero there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnx_xcam.surgery.autodiff.local.forms import Atom, Axis, Form, Reach
from onnx_xcam.surgery.autodiff.local.plan import Join, Plan
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value, quantiser_behind
from onnx_xcam.surgery.builder.shapes import Part
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits

_WHO = "The window of a candidate"
_COUNT = "xcam_windows"
"""The symbol for the number of windows, N K."""


@dataclass(frozen=True)
class Frame:
    """A Frame says where the windows of one level lie.

    Attributes:
        rows: the row of each position of a window, int64 `[B, h']`; outside the picture it is none of the level's.
        columns: the column of each position of a window, int64 `[B, w']`.
        sides: height and width of the level.
        own: whether a candidate is one of this level, bool `[B]`.
        offsets: the number along each of the other atoms of the level's places, as anchors of a cell, int64 `[B]`.
        reach: how far a window reaches.
    """

    rows: Value
    columns: Value
    sides: tuple[Part, Part]
    own: Value
    offsets: tuple[Value, ...]
    reach: Reach

    def inside(self, dtype: np.dtype[np.generic]) -> Value | None:
        """Emit 1 where a position of a window is in the picture, else 0, `[B, h', w']`; None where all are."""
        if self.reach == Reach():
            return None
        rows, columns = (_inside(*pair).cast(dtype) for pair in zip((self.rows, self.columns), self.sides, strict=True))
        return rows.unsqueeze([2]) * columns.unsqueeze([1])


def _inside(places: Value, size: Part) -> Value:
    """Emit whether places are numbers from 0 to below a size."""
    return (places < 0).logical_not().logical_and(places < size)


def _nearest(places: Value, size: Part) -> Value:
    """Emit the nearest place from 0 to below a size."""
    low = (places < 0).where(0, places)
    return (low < size).where(low, size - 1)


class Frames:
    """Frames hold where the windows of all levels lie, for the candidates that were chosen.

    Args:
        graph: the model.
        emitter: takes the added nodes.
        plan: how the scores are differentiated.
        candidates: the chosen candidates, int64 `[N, K]`.

    Attributes:
        count: the number of windows, B = N K.
        of_level: where the windows of each level lie.
    """

    def __init__(self, graph: Graph, emitter: Emitter, plan: Plan, candidates: Value) -> None:
        self.graph, self.emitter, self.plan, self.candidates = graph, emitter, plan, candidates
        images, objects = candidates.shape
        number = images * objects if isinstance(images, int) and isinstance(objects, int) else None
        self.count: Dim = _COUNT if number is None else number
        self.flat = candidates.reshape([-1], (self.count,))
        self._sizes = [self._sides(level) for level in range(len(plan.sources))]
        join = next(iter(plan.joins.values()))
        frames: dict[int, Frame] = {}
        start: Part = 0
        for places, level in zip(join.places, join.levels, strict=True):
            size = self._product(places, level)
            frames[level] = self._frame(places, level, start, size)
            start = shapes.add_parts(start, size)
        self.of_level = [frames[level] for level in range(len(frames))]

    def _sides(self, level: int) -> tuple[Part, Part]:
        """Return height and width of a level."""
        source = self.plan.sources[level]
        value = forward_value(self.graph, self.emitter, source.name, _WHO)
        height, width = (shapes.dim_part(value, source.layout.find(axis)) for axis in "HW")
        return height, width

    def _size(self, atom: Atom, level: int) -> Part:
        """Return the size of an atom of a level."""
        if atom.kind in ("row", "column"):
            return self._sizes[level][atom.kind == "column"]
        assert isinstance(atom.size, int)
        return atom.size

    def _product(self, atoms: Sequence[Atom], level: int) -> Part:
        """Return the number of positions of an axis."""
        sizes = [self._size(atom, level) for atom in atoms]
        result: Part = prod(size for size in sizes if isinstance(size, int))
        for size in sizes:
            if not isinstance(size, int):
                result = size * result
        return result

    def _frame(self, places: Axis, level: int, start: Part, size: Part) -> Frame:
        """Emit where the windows of a level lie whose candidates begin at a number."""
        place = self.flat - start
        own = _inside(place, size)
        place = own.where(place, 0)
        numbers: dict[int, Value] = {}
        for position, atom in reversed(list(enumerate(places))):
            if position == 0:
                numbers[position] = place
                break
            length = self._size(atom, level)
            whole = _divided(place, length)
            numbers[position] = place - whole * length
            place = whole
        reach = self.plan.reach[level]
        middle = [numbers[i].unsqueeze([1]) for i, atom in enumerate(places) if atom.kind != "channel"]
        rows, columns = (
            place + self.emitter.constant(np.arange(-before, after + 1, dtype=np.int64)[None])
            for place, before, after in zip(middle, reach.before, reach.after, strict=True)
        )
        others = tuple(numbers[i] for i, atom in enumerate(places) if atom.kind == "channel")
        return Frame(rows, columns, self._sizes[level], own, others, reach)

    # --- seeds ------------------------------------------------------------------------------------------------------

    def beginning(self, join: Join, part: int, gradient: Value) -> Value:
        """Emit the gradient of one level's part of a join in windows: that of the candidates, where these are.

        Args:
            join: where the levels are joined.
            part: the number of the part.
            gradient: `[1, B, ..., 1, ...]`, with size 1 along the axis of candidates.
        """
        level = join.levels[part]
        frame = self.of_level[level]
        ones: Value = frame.own.cast(gradient.dtype).unsqueeze([1])
        others, count = iter(frame.offsets), 1
        for atom in join.places[part]:
            if atom.kind == "channel":
                assert isinstance(atom.size, int)
                here = next(others).one_hot(self.emitter.constant(np.arange(atom.size, dtype=np.int64)), gradient.dtype)
            else:
                axis = int(atom.kind == "column")
                line = np.arange(frame.reach.size[axis]) == frame.reach.before[axis]
                here = self.emitter.constant(line.astype(gradient.dtype)[None])
            count *= self._length(atom, frame.reach)
            ones = (ones.unsqueeze([2]) * here.unsqueeze([1])).reshape([-1, count], (self.count, count))
        between, behind = [1] * (join.axis - 1), [1] * (gradient.rank - join.axis - 2)
        parts = [1, -1, *between, count, *behind]
        return gradient * ones.reshape(parts, (1, self.count, *between, count, *behind))

    # --- forward tensors --------------------------------------------------------------------------------------------

    def cut(self, name: str, whole: Value) -> Value:
        """Emit the windows of a forward tensor, `[B, ...]`; a tensor without places of candidates is returned whole.

        What is computed element by element is computed again in the windows, which takes less than keeping the whole
        tensor until the candidates are known.
        """
        form = self.plan.forms.get(name)
        if form is None:
            return whole
        again = self._again(name, form)
        return self._cut(form, whole) if again is None else again

    def _again(self, name: str, form: Form) -> Value | None:
        """Emit the windows of a tensor by its node on windows of its inputs; None where they are to be cut out."""
        node = self.graph.producer.get(name)
        if node is None or form.level is None or any(source.name == name for source in self.plan.sources):
            return None
        facts = traits(node)
        names = [str(tensor.name) for tensor in node.inputs]
        if (
            facts.elementwise != "all"
            or facts.casts
            or not all(names)
            or quantiser_behind(self.graph, name) is not None
        ):
            return None
        if not any(one in self.plan.forms for one in names) or not all(self.graph.is_float(one) for one in names):
            return None
        inputs = [self.cut(one, forward_value(self.graph, self.emitter, one, _WHO)) for one in names]
        shape = dims.broadcast(*(value.shape for value in inputs))
        return self.emitter.one(str(node.op), inputs, inputs[0].dtype, shape, **node.attrs)

    def _cut(self, form: Form, whole: Value) -> Value:
        """Emit the windows of a forward tensor, cut out of the whole."""
        whole = whole.unsqueeze(list(range(len(form.axes) - whole.rank)))
        if whole.shape[0] == 1 != self.candidates.shape[0]:  # numbers that are the same for all images
            parts = [shapes.dim_part(self.candidates, 0), *[1] * (whole.rank - 1)]
            whole = whole.expand(parts, (self.candidates.shape[0], *whole.shape[1:]))
        index, sizes = self._index(form)
        first, last = form.places[0], form.places[-1]
        return self._gathered(whole, index, sizes, first, last)

    def _index(self, form: Form) -> tuple[Value, list[int]]:
        """Emit the numbers of a window's positions along the joined axes of places, `[N, K V]`, and return their sizes.

        The sizes are those of the axes of places in a window.
        """
        if form.level is None:
            return self.candidates, [1]
        frame = self.of_level[form.level]
        atoms = [atom for axis in form.places for atom in form.axes[axis]]
        index: Value | None = None
        for atom in atoms:
            if atom.kind == "channel":
                own = self.emitter.constant(np.arange(self._length(atom, frame.reach), dtype=np.int64)[None])
            else:
                axis = int(atom.kind == "column")
                own = _nearest((frame.rows, frame.columns)[axis], frame.sides[axis])
            ahead = 0 if index is None else index.rank - 1
            own = own.unsqueeze(list(range(1, 1 + ahead)))
            if index is not None:
                index = (index * self._size(atom, form.level)).unsqueeze([index.rank])
            index = own if index is None else index + own
        assert index is not None
        sizes = [prod(self._length(atom, frame.reach) for atom in form.axes[axis]) for axis in form.places]
        images: Part = shapes.dim_part(self.candidates, 0)
        return index.reshape([images, -1], (self.candidates.shape[0], None)), sizes

    @staticmethod
    def _length(atom: Atom, reach: Reach) -> int:
        """Return the length of an atom in a window."""
        if atom.kind == "channel":
            assert isinstance(atom.size, int)
            return atom.size
        return reach.size[atom.kind == "column"]

    def _gathered(self, whole: Value, index: Value, sizes: Sequence[int], first: int, last: int) -> Value:
        """Emit the elements at an index `[N, K V]` along the axes `first` to `last`, as `[B, ...]`."""
        before, behind = whole.shape[1:first], whole.shape[last + 1 :]
        ahead = [shapes.dim_part(whole, axis) for axis in range(first)]
        rest = [shapes.dim_part(whole, axis) for axis in range(last + 1, whole.rank)]
        joined = whole
        if last > first:
            joined = whole.reshape([*ahead, -1, *rest], (*whole.shape[:first], None, *behind))
        places = index.unsqueeze([*range(1, first), *range(first + 1, joined.rank)])
        parts: list[Part] = [1, *ahead[1:], 1, *rest]
        shape: Shape = (index.shape[0], *before, index.shape[1], *behind)
        picked = joined.gather_elements(places.expand(parts, shape), first)
        lead: Part = shapes.dim_part(self.candidates, 0)
        picked = picked.reshape(
            [lead, *ahead[1:], -1, *sizes, *rest],  # where no object is asked for, 0 would mean another thing
            (whole.shape[0], *before, self.candidates.shape[1], *sizes, *behind),
        )
        order = [0, first, *range(1, first), *range(first + 1, picked.rank)]
        final = (self.count, *before, *sizes, *behind)
        return picked.transpose(order).reshape([-1, *ahead[1:], *sizes, *rest], final)

    # --- back ---------------------------------------------------------------------------------------------------------

    def placed(self, level: int, windows: Value) -> Value:
        """Emit windows of a level `[B, ..., h', w']` on its whole grid, zeros around them, as `[N, K, ..., h, w]`."""
        frame = self.of_level[level]
        extra = list(range(1, windows.rank - 2))
        rows = self._hits(frame.rows, level, 0, windows.dtype).swap_last().unsqueeze(extra)
        columns = self._hits(frame.columns, level, 1, windows.dtype).unsqueeze(extra)
        grid = rows @ windows @ columns
        parts: list[Part] = [shapes.dim_part(self.candidates, 0), -1]
        middle = windows.shape[1:-2]
        rest = [shapes.dim_part(windows, axis) for axis in extra]
        shape = (*self.candidates.shape, *middle, *grid.shape[-2:])
        return grid.reshape([*parts, *rest, *self._sizes[level]], shape)

    def _hits(self, places: Value, level: int, axis: int, dtype: np.dtype[np.generic]) -> Value:
        """Emit which of a level's rows, or columns, each place is: `[B, h', h]`, all zero outside the picture."""
        source = self.plan.sources[level]
        value = forward_value(self.graph, self.emitter, source.name, _WHO)
        return places.one_hot(value.range_of(source.layout.find("HW"[axis])), dtype)


def _divided(value: Value, size: Part) -> Value:
    """Emit whole numbers, none negative, divided by a size and rounded down."""
    if isinstance(size, int):
        size = value.emitter.constant(np.array(size, np.int64))
    return value.elementwise("Div", size)
