"""This module reads maps of each pyramid level: one of scores `[N, k C, h, w]` and one of boxes, k boxes in each cell.

| maps of each level | families | source |
|---|---|---|
| scores, bins `[N, 4 b, h, w]`, perhaps the sum of the scores | YOLOv8 and its successors for RKNN and other chips | README of airockchip/ultralytics_yolov8 |
| scores, distances `[N, 4, h, w]`, times the stride | RTMDet | mmdet/models/dense_heads/rtmdet_head.py |
| scores `[N, k C, h, w]` by a sigmoid, offsets `[N, 4 k, h, w]` | RetinaNet, EfficientDet | NVIDIA/retinanet-examples (odtk/model.py) |

Offsets refer to anchors that are not in the file, so that boxes are then not known, nor where nothing tells whether
four numbers are distances or offsets, in pixels or in strides.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.activation_patterns import number
from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.levels import level_maps
from onnx_xcam.surgery.targets.detection.scores import Made, kind_of
from onnx_xcam.surgery.targets.detection.spans import Span, is_picked, origins
from onnx_xcam.surgery.targets.detection.tables import (
    BINS,
    DISTANCES_IN_PIXELS,
    BoxColumns,
    LevelMap,
    Part,
    Scores,
    TableReading,
    table_notes,
)

_MOST_ANCHORS = 12
"""A cell has at most so many anchors: three sizes of three or four shapes in RetinaNet and its successors."""
_FEWEST_BINS = 8
"""A distance is a distribution over at least so many numbers, as in NanoDet and PicoDet."""


@dataclass(frozen=True, kw_only=True)
class LevelMaps(TableReading):
    """A LevelMaps is a map of scores and a map of boxes for each pyramid level."""

    form: ClassVar[str] = "maps of scores and of boxes for each level"


@dataclass(frozen=True)
class Map:
    """A Map is an output with the rows and columns of a level's grid: what made it, and where its columns are."""

    part: Part
    grid: tuple[int, int]
    made: Made


@dataclass(frozen=True)
class Level:
    """A Level is the maps of one grid that hold scores and boxes, each of some candidates in each cell."""

    scores: Map
    boxes: Map


def find(outputs: Outputs) -> LevelMaps | None:
    """Return how the outputs are read, None if they are no maps of at least two levels, or not surely so."""
    maps = [found for name in outputs.names if (found := _map(outputs, name)) is not None]
    grids = dict.fromkeys(one.grid for one in maps)
    levels = [_level([one for one in maps if one.grid == grid]) for grid in grids]
    known = [level for level in levels if level is not None]
    alike = {tuple((one.part.count, one.made) for one in (level.scores, level.boxes)) for level in known}
    if len(known) < 2 or len(known) < len(levels) or len(alike) != 1:
        return None
    kind = _kind(outputs, known[0])
    return None if kind is None else _reading(outputs, known, kind)


def _map(outputs: Outputs, name: str) -> Map | None:
    """Return an output as a map, None if it is none of a grid of the picture."""
    shape = outputs.shape(name)
    if len(shape) != 4 or is_picked(outputs.graph, Span(name)):
        return None
    for axis, rows, cells in ((1, 2, 3), (3, 1, 2)):
        count, height, width = shape[axis], shape[rows], shape[cells]
        if not isinstance(count, int) or not isinstance(height, int) or not isinstance(width, int):
            continue
        if outputs.places(name, rows) and outputs.places(name, cells):
            part = Part(name, axis, 0, count)
            return Map(part, (height, width), kind_of(outputs.graph, part.span))
    return None


def _level(maps: Sequence[Map]) -> Level | None:
    """Return the maps of scores and boxes among those of a grid, None if these are not just one of each.

    A map of one number that is computed, as of the sum of the scores, may stand beside them.
    """
    held = [one for one in maps if one.part.count > 1 or one.made != "computed"]
    if len(held) != 2:
        return None
    by_sigmoid = [one for one in held if one.made == "sigmoid"]
    if by_sigmoid:
        boxes = [one for one in held if one.made == "layer"]
        fits = len(boxes) == 1 and boxes[0].part.count % 4 == 0
        return Level(by_sigmoid[0], boxes[0]) if fits else None
    boxes = [one for one in held if one.part.count == 4 or one.part.count > 4 * _MOST_ANCHORS]
    if {one.made for one in held} != {"layer"} or len(boxes) != 1 or boxes[0].part.count % 4:
        return None
    return Level(next(one for one in held if one is not boxes[0]), boxes[0])


def _kind(outputs: Outputs, level: Level) -> Literal["numbers", "bins", "anchors"] | None:
    """Return what the boxes are told by: four numbers, distributions, or four of each anchor; None if unclear."""
    count, boxes = level.scores.part.count, level.boxes.part.count // 4
    if boxes == 1:
        return "numbers"
    bins = boxes >= _FEWEST_BINS and outputs.label_count in (None, count)
    of_anchors = boxes <= _MOST_ANCHORS and count % boxes == 0 and outputs.label_count in (None, count // boxes)
    if bins == of_anchors:
        return None
    return "bins" if bins else "anchors"


def _reading(outputs: Outputs, levels: Sequence[Level], kind: Literal["numbers", "bins", "anchors"]) -> LevelMaps:
    """Return the reading of some levels."""
    per_cell = levels[0].boxes.part.count // 4 if kind == "anchors" else 1
    parts = tuple(replace(level.boxes.part, per_cell=per_cell) for level in levels)
    scores = Scores(
        classes=tuple(replace(level.scores.part, per_cell=per_cell) for level in levels),
        squash="sigmoid" if levels[0].scores.made == "layer" else "none",
    )
    boxes = BoxColumns(parts, None) if kind == "anchors" else _boxes(outputs, parts, of_bins=kind == "bins")
    tensors = [origin.name for part in parts for origin in origins(outputs.graph, part.span)]
    return LevelMaps(
        outputs=scores.outputs,
        box_tensors=tensors,
        scores=scores,
        boxes=boxes,
        read_by=outputs,
        notes=table_notes(scores, boxes),
    )


def _boxes(outputs: Outputs, parts: tuple[Part, ...], *, of_bins: bool) -> BoxColumns:
    """Return how the boxes are told: as distributions, or as distances where the file multiplies these by strides."""
    maps = [level for part in parts for level in level_maps(outputs, part.span, part.count) or ()]
    in_pixels = len(maps) == len(parts) and all(
        _is_times(outputs.graph, part.name, level) for part, level in zip(parts, maps, strict=True)
    )
    if len(maps) != len(parts) or not (of_bins or in_pixels):
        return BoxColumns(parts, None)
    return BoxColumns(parts, BINS if of_bins else DISTANCES_IN_PIXELS, tuple(maps))


def _is_times(graph: Graph, name: str, level: LevelMap) -> bool:
    """Tell whether the numbers of a level are made by a product with its stride."""
    node = graph.producer.get(origins(graph, Span(name))[0].name)
    return node is not None and node.op == "Mul" and level.stride in [number(graph, one.name) for one in node.inputs]
