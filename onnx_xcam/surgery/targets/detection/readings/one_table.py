"""This module reads one table of boxes and class probabilities without objectness, `[N, 4 + C, Q]` or `[N, Q, 4 + C]`.

Ultralytics exports all of its detectors so, from v5u on: four numbers of the box first (centre and size in pixels),
then a sigmoid for each class, then what its segmentation, pose and oriented-box models add (mask coefficients, key
points, an angle). https://github.com/ultralytics/ultralytics/blob/main/ultralytics/nn/modules/head.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.autodiff.vjp_model import new_emitter
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.axis_evidence import AxisEvidence
from onnx_xcam.surgery.targets.candidates.appended import Columns
from onnx_xcam.surgery.targets.candidates.logits import Columns as Part
from onnx_xcam.surgery.targets.candidates.logits import behind
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.target import Evidence


@dataclass(frozen=True, kw_only=True)
class OneTable(Reading):
    """A OneTable is a table of boxes and class probabilities.

    Attributes:
        candidates: the axis of the candidates, 1 or 2; the columns have the other.
        columns: the columns of the classes.
    """

    form: ClassVar[str] = "boxes and class probabilities in one table"

    candidates: int
    columns: Part

    def emit(self, graph: Graph, emitter: Emitter) -> Columns:
        """Emit scores, probabilities and boxes."""
        table = forward_value(graph, emitter, self.outputs[0], "The table of candidates")
        source = behind(graph, emitter, self.outputs[0], self.columns)
        if source is None:
            raise ScoreError(f"The class probabilities of '{self.outputs[0]}' are not made by a sigmoid.")
        axis, start, stop = self.columns
        boxes = self._rows(table.slice([0], [4], [axis]))
        centre, size = boxes.slice([0], [2], [2]), boxes.slice([2], [4], [2]) * 0.5
        return Columns(
            scores=self._rows(source.value),
            probabilities=self._rows(table.slice([start], [stop], [axis])),
            boxes=emitter.concat([centre - size, centre + size], 2),
        )

    def _rows(self, columns: Value) -> Value:
        """Return columns as `[N, Q, ...]`."""
        return columns.transpose([0, 2, 1]) if self.candidates == 2 else columns


def find(evidence: Evidence) -> OneTable | None:
    """Return how the outputs are read, None if none of them is such a table."""
    graph = evidence.graph
    axes = AxisEvidence(graph, evidence.sample)
    for name in graph.output_names:
        shape = graph.shape(name) or ()
        if len(shape) != 3:
            continue
        for candidates, columns in ((2, 1), (1, 2)):
            count = shape[columns]
            if isinstance(count, int) and count > 4 and axes.places(name, candidates) == "places":
                stop = _stop_of_classes(graph, name, columns, count)
                if stop is not None:
                    part = Part(columns, 4, stop)
                    boxes = _first_joined(graph, name, columns)
                    return OneTable(outputs=[name], box_tensors=[boxes], candidates=candidates, columns=part)
    return None


def _first_joined(graph: Graph, name: str, axis: int) -> str:
    """Return the first of the tensors that a table is joined of along its columns, and the table if it is not."""
    node = graph.producer[name]
    joined = traits(node).axes == "concatenated" and int(node.attrs["axis"]) % 3 == axis
    return str(node.inputs[0].name) if joined else name


def _stop_of_classes(graph: Graph, name: str, axis: int, count: int) -> int | None:
    """Return the column behind the classes: the last up to which an activation makes all of them, None if none does."""
    emitter = new_emitter(graph)
    if behind(graph, emitter, name, Part(axis, 0, 4)) is not None:
        return None
    for stop in range(count, 4, -1):
        if behind(graph, emitter, name, Part(axis, 4, stop)) is not None:
            return stop
    return None
