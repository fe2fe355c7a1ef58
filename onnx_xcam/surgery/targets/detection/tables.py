"""This module brings what was read of a detector's outputs into the one table of candidates.

Outputs differ in where they have their columns and whether they have an axis of images; and one table may come in
several parts, one for each pyramid level. Rows of a part are read in the order of its axes, parts one behind another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.candidates.appended import Columns
from onnx_xcam.surgery.targets.candidates.logits import Columns as Cut
from onnx_xcam.surgery.targets.candidates.logits import behind
from onnx_xcam.surgery.targets.detection.boxes import (
    BoxForm,
    Grid,
    Places,
    Sides,
    expected_distances,
    from_centerface,
    from_distances,
    from_offsets_and_exp,
    from_offsets_and_size,
    from_pixels,
    from_tanh_and_sigmoid,
    places,
)
from onnx_xcam.surgery.targets.detection.evidence import WHO, Outputs
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.detection.spans import Span

Squash: TypeAlias = Literal["none", "sigmoid", "softmax"]
"""What makes probabilities of the numbers that a file gives as scores."""


@dataclass(frozen=True)
class Part:
    """A Part is a part of an output: some of its columns, for all candidates of one level or of all.

    Attributes:
        name: the output.
        axis: the axis of the columns, None if there is one number for each candidate and no such axis.
        start: the first column.
        stop: the column after the last.
        images: whether the first axis is that of the images.
        per_cell: how many candidates each place of a map has, one behind another along its columns.
    """

    name: str
    axis: int | None = None
    start: int = 0
    stop: int = 1
    images: bool = True
    per_cell: int = 1

    @property
    def span(self) -> Span:
        """Return the part as a span."""
        return Span(self.name) if self.axis is None else Span(self.name, self.axis, self.start, self.stop)

    @property
    def count(self) -> int:
        """Return the number of columns of a candidate."""
        return (self.stop - self.start) // self.per_cell

    def read(self, graph: Graph, emitter: Emitter) -> Value:
        """Emit the part's values as the model computes them, `[N, Q, C]`."""
        value = forward_value(graph, emitter, self.name, WHO)
        if self.axis is not None and (self.start, self.stop) != (0, value.shape[self.axis]):
            value = value.slice([self.start], [self.stop], [self.axis])
        return self.rows(value)

    def behind(self, graph: Graph, emitter: Emitter, *, log: bool = False) -> Value | None:
        """Emit the logits of the part, or the logarithms of its probabilities, `[N, Q, C]`; None if unknown."""
        cut = None if self.axis is None else Cut(self.axis, self.start, self.stop)
        found = behind(graph, emitter, self.name, cut)
        value = None if found is None else found.log() if log else found.value
        return None if value is None else self.rows(value)

    def rows(self, value: Value) -> Value:
        """Return values with the output's axes, cut to the columns, as `[N, Q, C]`."""
        if self.axis is None:
            value = value.unsqueeze([value.rank])
        elif self.axis != value.rank - 1:
            value = value.transpose([*(axis for axis in range(value.rank) if axis != self.axis), self.axis])
        if not self.images:
            value = value.unsqueeze([0])
        if value.rank == 2:
            value = value.unsqueeze([1])
        if value.rank == 3:
            return value
        sizes = (*value.shape[1:-1], self.per_cell)
        known = [size for size in sizes if isinstance(size, int)]
        columns = shapes.dim_part(value, value.rank - 1) if self.per_cell == 1 else self.count
        count = None
        if len(known) == len(sizes):
            count = 1
            for size in known:
                count *= size
        return value.reshape(
            [shapes.dim_part(value, 0), -1, columns],
            (value.shape[0], count, columns if isinstance(columns, int) else value.shape[-1]),
        )


def joined(emitter: Emitter, values: Sequence[Value]) -> Value:
    """Return the rows of several levels `[N, Q_i, C]` one behind another."""
    return emitter.concat(values, 1)


@dataclass(frozen=True)
class Scores:
    """A Scores says where the scores of all candidates stand.

    Attributes:
        classes: the scores of the classes, one part for each level.
        objectness: the probability that there is an object at all, one part for each level; empty if there is none.
        squash: what makes probabilities of the numbers.
        powers: the powers of objectness and of class whose product the probability is.
        background: the column of the class that means no object, 0 or -1; None if there is none.
        numbered: whether the first column, of the background, counts as class 0, which is never an object's own class.
    """

    classes: tuple[Part, ...]
    objectness: tuple[Part, ...] = ()
    squash: Squash = "none"
    powers: tuple[float, float] = (1, 1)
    background: Literal[0, -1] | None = None
    numbered: bool = False

    @property
    def class_count(self) -> int:
        """Return the number of classes."""
        return self.classes[0].count - (self.background is not None and not self.numbered)

    @property
    def outputs(self) -> list[str]:
        """Return the outputs that hold them."""
        return list(dict.fromkeys(part.name for part in (*self.classes, *self.objectness)))

    def emit(self, graph: Graph, emitter: Emitter) -> tuple[Value, Value, bool]:
        """Emit scores and probabilities `[N, Q, C]`, and tell whether the scores are the probabilities themselves."""
        told = joined(emitter, [part.read(graph, emitter) for part in self.classes])
        if self.squash == "sigmoid" and self.objectness:
            first = joined(emitter, [part.read(graph, emitter) for part in self.objectness])
            return _log_sigmoid(first) + _log_sigmoid(told), self._product(first.sigmoid(), told.sigmoid()), False
        if self.squash != "none":
            p = told.sigmoid() if self.squash == "sigmoid" else _softmax(told)
            return self._of_objects(told), self._without_background(p), False
        p = told
        if self.objectness:
            p = self._product(joined(emitter, [part.read(graph, emitter) for part in self.objectness]), p)
        scores = self._logits(graph, emitter)
        p = self._without_background(p)
        return (p, p, True) if scores is None else (self._of_objects(scores), p, False)

    def _logits(self, graph: Graph, emitter: Emitter) -> Value | None:
        """Emit the scores behind the probabilities; None if they are not known."""
        log = bool(self.objectness)
        found = [part.behind(graph, emitter, log=log) for part in self.classes]
        first = [part.behind(graph, emitter, log=True) for part in self.objectness]
        known = [value for value in (*found, *first) if value is not None]
        if len(known) < len(found) + len(first):
            return None
        scores = joined(emitter, known[: len(found)])
        return scores + joined(emitter, known[len(found) :]) if first else scores

    def _product(self, objectness: Value, p: Value) -> Value:
        """Return the product of powers of objectness and class probabilities."""
        of_object, of_class = self.powers
        if of_object == of_class:
            p = objectness * p
            return p if of_class == 1 else p**of_class
        return objectness**of_object * p**of_class

    def _without_background(self, p: Value) -> Value:
        """Return probabilities without those of the background."""
        if not self.numbered:
            return self._of_objects(p)
        return p * p.emitter.constant((np.arange(self.class_count) > 0).astype(p.dtype))

    def _of_objects(self, values: Value) -> Value:
        """Return the columns of the classes."""
        if self.background is None or self.numbered:
            return values
        start = 0 if self.background == -1 else 1
        return values.slice([start], [start + self.class_count], [2])


def _log_sigmoid(x: Value) -> Value:
    """Return log(sigmoid(x)) = -softplus(-x)."""
    return -x.emitter.one("Softplus", [-x], x.dtype, x.shape)


def _softmax(logits: Value) -> Value:
    """Return the softmax over the last of three axes."""
    return logits.emitter.one("Softmax", [logits], logits.dtype, logits.shape, axis=2)


# --- boxes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LevelMap:
    """A LevelMap says which tensor has the rows and columns of a level's grid.

    Attributes:
        name: the tensor.
        height: its axis of the grid's rows.
        width: its axis of the grid's columns.
        stride: the distance of two cells in pixels.
        per_cell: how many candidates each cell has.
    """

    name: str
    height: int
    width: int
    stride: int
    per_cell: int = 1

    def grid(self, graph: Graph, emitter: Emitter) -> Grid:
        """Return the grid, with numbers or with values for its sides."""
        value = forward_value(graph, emitter, self.name, WHO)
        height, width = (shapes.dim_part(value, axis) for axis in (self.height, self.width))
        return Grid(height, width, self.stride, self.per_cell)


@dataclass(frozen=True)
class Decoding:
    """A Decoding says how raw numbers of the cells of grids become boxes.

    Attributes:
        text: the decoding in words.
        shift: where in its cell a place lies: 0 for the first corner, 0.5 for the middle.
        corners: emits the corners, `[N, Q, 4]`, of raw numbers `[N, Q, ...]`, their places and the picture's sides.
    """

    text: str
    shift: float
    corners: Callable[[Value, Places, Sides], Value]


DISTANCES = Decoding("distances to the sides in strides, from the first corner of each cell", 0, from_distances)
DISTANCES_IN_PIXELS = Decoding(
    "distances to the sides in pixels, from the first corner of each cell",
    0,
    lambda raw, at, sides: from_distances(raw / at.strides, at, sides),
)
BINS = Decoding(
    "distributions over distances to the sides, from the middle of each cell",
    0.5,
    lambda raw, at, sides: from_distances(expected_distances(raw), at, sides),
)
CORNER_BINS = Decoding("distributions over distances to the sides, from the first corner of each cell", 0, BINS.corners)
GRID_AND_EXP = Decoding(
    "offsets from the first corner of each cell and logarithms of sizes, in strides", 0, from_offsets_and_exp
)
TANH_AND_SIGMOID = Decoding(
    "offsets (tanh) from the first corner of each cell, and sizes (sigmoid) in fractions of the picture",
    0,
    from_tanh_and_sigmoid,
)
IN_PIXELS = Decoding("offsets from the middle of each cell and sizes, in pixels", 0.5, from_pixels)
GRID_AND_SIZE = Decoding("offsets from the first corner of each cell and sizes, in strides", 0, from_offsets_and_size)
CENTER_FACE = Decoding(
    "y, x from the middle of each cell and logarithms of height and width, in strides", 0.5, from_centerface
)


@dataclass(frozen=True)
class BoxColumns:
    """A BoxColumns says where the numbers of boxes stand, and how they are told.

    Attributes:
        parts: the numbers, one part for each level.
        code: the form of decoded boxes, or the decoding of raw ones; None if it is not known.
        maps: the grids of the levels, for raw boxes.
        beside: whether the parts are columns beside each other, and not levels.
    """

    parts: tuple[Part, ...]
    code: BoxForm | Decoding | None
    maps: tuple[LevelMap, ...] = ()
    beside: bool = False

    def emit(self, graph: Graph, emitter: Emitter, sides: Callable[[], Sides]) -> Value | None:
        """Emit the corners x1, y1, x2, y2 in pixels, `[N, Q, 4]`; None if boxes are not known."""
        if self.code is None:
            return None
        raw = emitter.concat([part.read(graph, emitter) for part in self.parts], 2 if self.beside else 1)
        if isinstance(self.code, BoxForm):
            return self.code.corners(raw, sides())
        grids = [one.grid(graph, emitter) for one in self.maps]
        return self.code.corners(raw, places(emitter, grids, self.code.shift, raw), sides())


@dataclass(frozen=True, kw_only=True)
class TableReading(Reading):
    """A TableReading reads scores and boxes of the same candidates.

    Attributes:
        scores: the scores.
        boxes: the boxes.
        read_by: what the outputs were read by.
    """

    form: ClassVar[str] = "scores and boxes of candidates"

    scores: Scores
    boxes: BoxColumns
    read_by: Outputs = field(repr=False)

    def emit(self, graph: Graph, emitter: Emitter) -> Columns:
        """Emit scores, probabilities and boxes."""
        scores, probabilities, same = self.scores.emit(graph, emitter)
        boxes = self.boxes.emit(graph, emitter, lambda: self.read_by.emitted_sides(graph, emitter))
        return Columns(scores=scores, probabilities=probabilities, boxes=boxes, are_probabilities=same)


def table_notes(scores: Scores, boxes: BoxColumns) -> tuple[str, ...]:
    """Return what was assumed of scores and boxes, in sentences."""
    count = scores.class_count
    text = f"Scores: {count} class{'' if count == 1 else 'es'}"
    if scores.objectness:
        of_object, of_class = scores.powers
        powers = "" if scores.powers == (1, 1) else f", to the powers of {of_object:g} and {of_class:g}"
        text += f", times objectness{powers}"
    if scores.numbered:
        text += "; class 0 means no object"
    elif scores.background is not None:
        text += f", without the {'first' if scores.background == 0 else 'last'} column, which means no object"
    if scores.squash != "none":
        text += f"; a {scores.squash} is applied to the file's logits"
    told = boxes.code.text if boxes.code is not None else None
    unknown = "Boxes: how the file tells them is not known, so none are drawn and overlapping objects are all kept."
    return (f"{text}.", unknown if told is None else f"Boxes: {told}.")
