"""This module reads scores and boxes that are outputs of their own, for all candidates or for each pyramid level.

| outputs | families | source |
|---|---|---|
| scores `[N,Q,C]`, boxes `[N,Q,4]` decoded | SSD, UltraFace, DAMO-YOLO, YOLOv4, YOLO-NAS | vision/ssd of Linzaer/Ultra-Light-Fast-Generic-Face-Detector-1MB; tool/yolo_layer.py of Tianxiaomo/pytorch-YOLOv4 |
| per level scores `[N,n,C]`, bins `[N,n,4 b]` | PicoDet | ppdet/modeling/heads/pico_head.py |
| per level scores `[N,n,1]` or `[n,1]`, distances | SCRFD | detection/scrfd/tools/scrfd.py of deepinsight/insightface |
| per level two scores, offsets and sizes | YuNet; p is the root of their product | modules/objdetect/src/face_detect.cpp of OpenCV |
| logits `[N,Q,1]`, `[N,Q,4+2k]` | BlazeFace: offsets and sizes in pixels, then key points | tensors_to_detections_calculator.cc of MediaPipe |
| logits `[N,Q,C]`, boxes `[N,Q,4]` by a sigmoid | DETR and its successors: one candidate for each query | modeling_detr.py, modeling_deformable_detr.py of transformers |

Outputs belong together if they have equally many rows. A softmax over candidates of a grid has a class for "no object"
first, one over queries has it last.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from onnx_xcam.surgery.normalise.cut_plugins import plugin_of
from onnx_xcam.surgery.targets.detection.boxes import BoxForm
from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.levels import level_maps
from onnx_xcam.surgery.targets.detection.scores import PROBABILITIES, Made, kind_of
from onnx_xcam.surgery.targets.detection.spans import Span, is_picked, origins
from onnx_xcam.surgery.targets.detection.tables import (
    BINS,
    DISTANCES,
    GRID_AND_EXP,
    IN_PIXELS,
    BoxColumns,
    Decoding,
    LevelMap,
    Part,
    Scores,
    Squash,
    TableReading,
    table_notes,
)

_LEAST_BINS = 5
"""Distances are distributions over at least so many numbers."""
_BOXES = re.compile(r"box|loc|reg|coord", re.IGNORECASE)
"""The name of an output of boxes contains one of these, where its shape alone could be that of four scores."""
_QUERIES = BoxForm("cxcywh", "fractions")
"""The form of the boxes of DETR and its successors."""


@dataclass(frozen=True, kw_only=True)
class Separate(TableReading):
    """A Separate is a table whose scores and boxes are outputs of their own."""

    form: ClassVar[str] = "scores and boxes in outputs of their own"


@dataclass(frozen=True)
class Table:
    """A Table is an output as a table: so many rows, each with some columns.

    Attributes:
        part: all of its columns.
        rows: the number of candidates.
        made: what made the columns.
    """

    part: Part
    rows: int
    made: Made


@dataclass(frozen=True)
class Level:
    """A Level holds the outputs that have the same rows.

    Attributes:
        boxes: the boxes.
        scores: one or two tables of scores: of classes, and of objectness.
        of_queries: whether the rows are queries, and no places of the picture.
    """

    boxes: Table
    scores: tuple[Table, ...]
    of_queries: bool = False


def find(outputs: Outputs) -> Separate | None:
    """Return how the outputs are read, None if there are no scores and boxes with equally many rows."""
    own = [name for name in outputs.names if not is_picked(outputs.graph, Span(name))]
    tables = [table for name in own if (table := table_of(outputs, name)) is not None]
    for wanted in (_is_box, _is_bins, _is_box_with_points):
        boxes = _surely_boxes([one for one in tables if wanted(one)])
        levels = [level for one in boxes if (level := _level(outputs, one, tables)) is not None]
        if levels and len({len(level.scores) for level in levels}) == 1 and _are_different(levels):
            return _reading(outputs, levels)
    return None


def _surely_boxes(tables: Sequence[Table]) -> list[Table]:
    """Return the tables that hold boxes: all of them, or those that are named so where several have as many rows."""
    rows = [one.rows for one in tables]
    return [one for one in tables if rows.count(one.rows) == 1 or _BOXES.search(one.part.name) is not None]


def table_of(outputs: Outputs, name: str) -> Table | None:
    """Return an output as a table, None if it is none."""
    shape = outputs.shape(name)
    if any(not isinstance(dim, int) for dim in shape[1:]):
        return None
    if len(shape) == 3:
        axis = 1 if outputs.places(name, 2) and not outputs.places(name, 1) else 2
        return _table(outputs, Part(name, axis, 0, _int(shape[axis])), _int(shape[3 - axis]))
    if len(shape) == 4 and shape[2] == 1:
        return _table(outputs, Part(name, 3, 0, _int(shape[3])), _int(shape[1]))
    if len(shape) == 2 and isinstance(shape[0], int) and outputs.places(name, 0):
        return _table(outputs, Part(name, 1, 0, _int(shape[1]), images=False), shape[0])
    return None


def _int(dim: object) -> int:
    """Return a dimension that is known to be a number."""
    assert isinstance(dim, int)
    return dim


def _table(outputs: Outputs, part: Part, rows: int) -> Table:
    """Return a table of an output."""
    return Table(part, rows, kind_of(outputs.graph, part.span))


def _is_box(table: Table) -> bool:
    """Tell whether a table may hold boxes as four numbers."""
    return table.part.count == 4 and table.made in ("computed", "layer", "sigmoid")


def _is_bins(table: Table) -> bool:
    """Tell whether a table may hold distributions of four distances."""
    return table.part.count >= 4 * _LEAST_BINS and table.part.count % 4 == 0 and table.made == "layer"


def _is_box_with_points(table: Table) -> bool:
    """Tell whether a table may hold boxes as four numbers, and key points."""
    return table.part.count > 4 and table.part.count % 2 == 0 and table.made == "layer"


def _level(outputs: Outputs, boxes: Table, tables: Sequence[Table]) -> Level | None:
    """Return boxes with the scores of as many rows; None if there are none, or none that surely are scores."""
    others = [one for one in tables if one is not boxes and one.rows == boxes.rows]
    scores = [one for one in others if one.made in PROBABILITIES]
    if boxes.made == "sigmoid" or (boxes.made == "computed" and not scores and _is_of_queries(outputs, boxes)):
        logits = [one for one in others if one.made in ("layer", "computed")]
        return Level(boxes, (logits[0],), of_queries=True) if len(logits) == 1 else None
    if not scores:
        scores = [one for one in others if one.made == "layer" and (boxes.made != "layer" or one.part.count == 1)]
        return Level(boxes, (scores[0],)) if len(scores) == 1 else None
    if len(scores) == 1:
        return Level(boxes, tuple(scores))
    scores.sort(key=lambda one: -one.part.count)
    return Level(boxes, tuple(scores)) if len(scores) == 2 and scores[1].part.count == 1 else None


def _is_of_queries(outputs: Outputs, boxes: Table) -> bool:
    """Tell whether rows of decoded boxes tell fractions of the picture's sides, and are no places of it in order."""
    return outputs.are_fractions(boxes.part.span) and outputs.form_of(boxes.part.span) is None


def _are_different(levels: Sequence[Level]) -> bool:
    """Tell whether levels have different numbers of rows, the same columns and the same kinds of values."""
    rows = [level.boxes.rows for level in levels]
    kinds = {
        (level.boxes.made, level.boxes.part.count, *((one.made, one.part.count) for one in level.scores))
        for level in levels
    }
    return len(set(rows)) == len(rows) and len(kinds) == 1


def _reading(outputs: Outputs, levels: Sequence[Level]) -> Separate:
    """Return the reading of some levels."""
    first = levels[0]
    of_queries = first.of_queries
    classes = tuple(level.scores[0].part for level in levels)
    objectness = tuple(level.scores[1].part for level in levels if len(level.scores) > 1)
    plugin = plugin_of(outputs.evidence.props)
    squash, background = _squash(outputs, first, of_queries=of_queries)
    if plugin is not None:
        squash, background = ("sigmoid" if plugin.sigmoid else "none"), (0 if plugin.background == 0 else None)
    powers = (0.5, 0.5) if objectness and classes[0].count == 1 else (1, 1)
    numbered = background == 0 and outputs.label_count != classes[0].count - 1
    scores = Scores(classes, objectness, squash, powers, background, numbered)
    boxes = _boxes(outputs, levels)
    tensors = [origin.name for part in boxes.parts for origin in origins(outputs.graph, part.span)]
    return Separate(
        outputs=scores.outputs,
        box_tensors=tensors,
        picks=of_queries,
        conf=None if plugin is None else plugin.conf,
        iou=None if plugin is None else plugin.iou,
        scores=scores,
        boxes=boxes,
        read_by=outputs,
        notes=table_notes(scores, boxes),
    )


def _squash(outputs: Outputs, level: Level, *, of_queries: bool) -> tuple[Squash, Literal[0, -1] | None]:
    """Return what makes probabilities of the scores, and the column that means no object."""
    scores, count = level.scores[0], level.scores[0].part.count
    of_background: Literal[0, -1] = -1 if of_queries else 0
    names = outputs.label_count
    if scores.made == "softmax":
        return "none", None if count in (names, 1) else of_background
    if scores.made in PROBABILITIES:
        return "none", None
    exclusive = (
        names == count - 1 if names in (count, count - 1) else of_queries and _from_queries_alone(outputs, level)
    )
    return ("softmax", of_background) if exclusive and count > 1 else ("sigmoid", None)


def _from_queries_alone(outputs: Outputs, level: Level) -> bool:
    """Tell whether boxes are made by layers alone, and not by shifting points of reference.

    DETR and YOLOS make boxes so, and have a softmax with a class for "no object"; their successors shift points or
    boxes of reference before the last sigmoid, and have a sigmoid for each class (Deformable DETR, Zhu et al., 2021).
    """
    if level.boxes.made != "sigmoid":
        return False
    graph = outputs.graph
    origin = origins(graph, level.boxes.part.span)[0]
    before = str(graph.producer[origin.name].inputs[0].name)
    return kind_of(graph, replace(origin, name=before)) == "layer"


def _boxes(outputs: Outputs, levels: Sequence[Level]) -> BoxColumns:
    """Return how the boxes are told."""
    first, parts = levels[0].boxes, tuple(level.boxes.part for level in levels)
    if levels[0].of_queries:
        return BoxColumns(parts, _QUERIES)
    if first.made == "computed":
        form = outputs.form_of(parts[0].span) if len(parts) == 1 else None
        plugin = plugin_of(outputs.evidence.props)
        if form is not None and plugin is not None and plugin.centred:
            form = replace(form, order="cxcywh")
        return BoxColumns(parts, form)
    maps: list[LevelMap] = []
    for part in parts:
        found = level_maps(outputs, part.span, part.count)
        if found is None:
            return BoxColumns(parts, None)
        maps += found
    decoding = _decoding(levels)
    if decoding is IN_PIXELS:
        parts = tuple(Part(part.name, part.axis, 0, 4, part.images) for part in parts)
    fits = sum(level.boxes.rows for level in levels) == sum(_cells(outputs, one) for one in maps)
    return BoxColumns(parts, decoding if fits else None, tuple(maps))


def _cells(outputs: Outputs, level: LevelMap) -> int:
    """Return the number of candidates of a grid."""
    shape = outputs.shape(level.name)
    return _int(shape[level.height]) * _int(shape[level.width]) * level.per_cell


def _decoding(levels: Sequence[Level]) -> Decoding | None:
    """Return the decoding of raw boxes; None if it is not known, as of offsets from priors that the file lacks."""
    boxes, scores = levels[0].boxes, levels[0].scores
    if boxes.part.count == 4:
        if len(levels) == 1:
            return None
        return GRID_AND_EXP if len(scores) == 2 else DISTANCES
    if scores[0].made == "layer":
        return IN_PIXELS
    return BINS if boxes.part.count % 4 == 0 else None
