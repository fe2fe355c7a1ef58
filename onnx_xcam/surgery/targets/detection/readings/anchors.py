"""This module reads levels `[N, k, h, w, 5 + C]` of k anchors in each cell, all by one sigmoid or before it.

YOLOv3, v5 and v7 come out so when they are exported without their last layer: four numbers of the box, objectness,
classes. The sizes of the anchors are not in the file, so that boxes are not known.
Source: `Detect` in models/yolo.py of ultralytics/yolov5 and WongKinYiu/yolov7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.scores import Made, kind_of
from onnx_xcam.surgery.targets.detection.spans import Span
from onnx_xcam.surgery.targets.detection.tables import BoxColumns, Part, Scores, TableReading, table_notes


@dataclass(frozen=True, kw_only=True)
class Anchors(TableReading):
    """An Anchors is levels of anchors, each with box, objectness and classes."""

    form: ClassVar[str] = "levels of anchors with boxes, objectness and class scores"


def find(outputs: Outputs) -> Anchors | None:
    """Return how the outputs are read, None if they are no such levels."""
    levels = [name for name in outputs.names if _is_level(outputs, name)]
    counts = {outputs.shape(name)[4] for name in levels}
    sizes = [outputs.shape(name)[2:4] for name in levels]
    if len(levels) < 2 or len(counts) > 1 or len(set(sizes)) < len(sizes):
        return None
    count, made = counts.pop(), {_made(outputs, name) for name in levels}
    if len(made) > 1 or not isinstance(count, int) or outputs.label_count not in (None, count - 5):
        return None
    scores = Scores(
        classes=tuple(Part(name, 4, 5, count) for name in levels),
        objectness=tuple(Part(name, 4, 4, 5) for name in levels),
        squash="sigmoid" if made == {"layer"} else "none",
    )
    boxes = BoxColumns(tuple(Part(name, 4, 0, 4) for name in levels), None)
    return Anchors(
        outputs=levels,
        box_tensors=levels,
        scores=scores,
        boxes=boxes,
        read_by=outputs,
        notes=table_notes(scores, boxes),
    )


def _is_level(outputs: Outputs, name: str) -> bool:
    """Tell whether an output has anchors in cells, with at least six columns that a sigmoid or a layer made."""
    shape = outputs.shape(name)
    if len(shape) != 5 or not all(isinstance(dim, int) for dim in shape[1:]):
        return False
    count = shape[4]
    return isinstance(count, int) and count > 5 and _made(outputs, name) in ("sigmoid", "layer")


def _made(outputs: Outputs, name: str) -> Made:
    """Return what made an output."""
    return kind_of(outputs.graph, Span(name))
