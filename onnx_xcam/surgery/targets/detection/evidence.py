"""This module holds what the outputs of a detector are read by: the graph, the picture's sides, and stored numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from onnx_xcam.contract import picture_sides
from onnx_xcam.surgery.analysis.ends import ends, pictures
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.axis_evidence import AxisEvidence
from onnx_xcam.surgery.targets.detection.boxes import BoxForm, Sides
from onnx_xcam.surgery.targets.detection.probing import are_fractions, box_form
from onnx_xcam.surgery.targets.detection.scores import Made, kind_of
from onnx_xcam.surgery.targets.detection.spans import Run, Span, origins, runs, span
from onnx_xcam.surgery.targets.target import Evidence
from onnx_xcam.text import load_literal

WHO = "The table of candidates"
"""These words say in messages who needs a tensor."""


@dataclass(frozen=True)
class Segment:
    """A Segment is a longest part of a table's columns that one kind of node made, in one piece.

    Attributes:
        start: the first column.
        stop: the column after the last.
        made: what made the values.
        run: where they were computed.
    """

    start: int
    stop: int
    made: Made
    run: Run

    @property
    def count(self) -> int:
        """Return the number of columns."""
        return self.stop - self.start


@dataclass(frozen=True)
class Outputs:
    """An Outputs holds what the outputs of a model are read by.

    Attributes:
        evidence: the model, and what is stated of it.
    """

    evidence: Evidence

    @property
    def graph(self) -> Graph:
        """Return the graph with numbers for height and width."""
        return self.evidence.sample or self.evidence.graph

    @cached_property
    def names(self) -> list[str]:
        """Return the outputs that hold floats."""
        return [name for name in ends(self.graph) if self.graph.is_float(name) or name in self.graph.quantised]

    @property
    def label_count(self) -> int | None:
        """Return the number of classes that the metadata name, None if they name none.

        Ultralytics writes them as a Python dictionary under "names".
        """
        if self.evidence.labels is not None:
            return len(self.evidence.labels)
        try:
            named = load_literal(self.evidence.props.get("names", ""))
        except ValueError:
            return None
        return len(named) if isinstance(named, dict | list | tuple) and named else None

    @cached_property
    def _axes(self) -> AxisEvidence:
        """Return what the axes of tensors stand for."""
        return AxisEvidence(self.graph)

    def places(self, name: str, axis: int) -> bool:
        """Tell whether an axis runs over places of the picture."""
        return self._axes.places(name, axis) is not None

    @cached_property
    def picture(self) -> str | None:
        """Return the picture input, None if there is none of known axes."""
        return next((name for name in pictures(self.graph) if self._side_axes(name) is not None), None)

    def _side_axes(self, name: str) -> tuple[int, int] | None:
        """Return the axes of height and width of an input, which may lack the axis of images."""
        return picture_sides(self.graph.shape(name) or ())

    @cached_property
    def sides(self) -> tuple[int, int] | None:
        """Return width and height of the picture as numbers; None if unknown."""
        if self.picture is None or (axes := self._side_axes(self.picture)) is None:
            return None
        height, width = (self.shape(self.picture)[axis] for axis in axes)
        return (width, height) if isinstance(width, int) and isinstance(height, int) else None

    def emitted_sides(self, graph: Graph, emitter: Emitter) -> Sides:
        """Return width and height of the picture in a graph that may have symbols for them."""
        axes = None if self.picture is None else self._side_axes(self.picture)
        assert axes is not None
        assert self.picture is not None
        picture = forward_value(graph, emitter, self.picture, WHO)
        height, width = (shapes.dim_part(picture, axis) for axis in axes)
        return Sides(width, height)

    def shape(self, name: str) -> Shape:
        """Return the shape of a tensor, with numbers for height and width.

        Exporters give the axes of an output that is taken from several by its number symbols of their own.
        """
        shape, node = self.graph.shape(name) or (), self.graph.producer.get(name)
        if node is None or traits(node).axes != "gathered" or all(isinstance(dim, int) for dim in shape):
            return shape
        source, place = (str(tensor.name) for tensor in node.inputs)
        before = self.graph.shape(source)
        if before is None or self.graph.shape(place) != ():
            return shape
        axis = int(node.attrs.get("axis", 0)) % len(before)
        return (*before[:axis], *before[axis + 1 :])

    def segments(self, name: str, axis: int) -> list[Segment]:
        """Return the columns along an axis of an output, divided by what made them."""
        found: list[Segment] = []
        whole = span(self.graph, name, axis)
        for run in runs(self.graph, whole):
            made = kind_of(self.graph, whole.part(run.start, run.stop))
            last = found[-1] if found else None
            if last is not None and made == last.made == "computed":
                found[-1] = Segment(last.start, run.stop, made, Run(last.start, run.stop, last.run.origins))
            else:
                found.append(Segment(run.start, run.stop, made, run))
        return found

    def are_fractions(self, boxes: Span) -> bool:
        """Tell whether four decoded columns are fractions of the picture's sides."""
        return are_fractions(self.graph, boxes, self.evidence.stored)

    def form_of(self, boxes: Span) -> BoxForm | None:
        """Return how four decoded columns tell boxes; None if that is not clear."""
        if self.sides is None:
            return None
        behind = origins(self.graph, boxes)
        at = behind[0] if len(behind) == 1 and behind[0].axis is not None else boxes
        return box_form(self.graph, at, self.sides, self.evidence.stored)
