"""This module reads one table of boxes and scores, `[N, D, Q]`, `[N, Q, D]` or a map `[N, D, h, w]`, in levels or whole.

| columns | families | source |
|---|---|---|
| box, classes, others | Ultralytics v5u to 26: centre and size in pixels, then what segmentation, pose and oriented boxes add | ultralytics/nn/modules/head.py |
| box, objectness, classes | YOLOX (raw or decoded), YOLOv3, v5, v7; YOLOv6 with an objectness of 1 | yolox/models/yolo_head.py, models/yolo.py of yolov5 and yolov7, yolov6/models/effidehead.py |
| objectness, box, classes | FastestDet, one map | utils/tool.py and example/onnx-runtime/runtime.py of dog-qiuqiu/FastestDet |
| classes, bins of distances | NanoDet | nanodet/model/head/nanodet_plus_head.py; its older gfl_head.py measures from the middle of each cell |

Which columns are what is told by what made them: a sigmoid, a decoding, or a layer alone. An objectness has a layer of
its own, or is one column of a sigmoid from which the boxes are made as well, or is as many columns as there are names
of classes and one more.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.targets.detection.boxes import BoxForm
from onnx_xcam.surgery.targets.detection.evidence import Outputs, Segment
from onnx_xcam.surgery.targets.detection.levels import level_maps
from onnx_xcam.surgery.targets.detection.scores import PROBABILITIES
from onnx_xcam.surgery.targets.detection.spans import Span, is_picked, origins
from onnx_xcam.surgery.targets.detection.tables import (
    CORNER_BINS,
    GRID_AND_EXP,
    TANH_AND_SIGMOID,
    BoxColumns,
    Decoding,
    Part,
    Scores,
    TableReading,
    table_notes,
)

_FASTEST_DET = (0.6, 0.4)
"""FastestDet's probability is objectness to the power of 0.6 times class to the power of 0.4."""


@dataclass(frozen=True, kw_only=True)
class OneTable(TableReading):
    """A OneTable is a table of boxes and scores."""

    form: ClassVar[str] = "boxes and class scores in one table"


@dataclass(frozen=True)
class Plan:
    """A Plan says which columns of one output are what.

    Attributes:
        boxes: the columns of the boxes.
        classes: the columns of the classes.
        objectness: the column of the objectness, None if there is none, or if it is constant.
        decoded: whether the file decodes the boxes.
    """

    boxes: tuple[int, int]
    classes: tuple[int, int]
    objectness: int | None = None
    decoded: bool = True

    @property
    def is_one_map(self) -> bool:
        """Tell whether it is FastestDet's, with the objectness first."""
        return self.objectness == 0


@dataclass(frozen=True)
class Planned:
    """A Planned is an output with its axis of columns, and what these are."""

    name: str
    axis: int
    plan: Plan


def find(outputs: Outputs) -> OneTable | None:
    """Return how the outputs are read, None if none of them is such a table."""
    every = [found for name in outputs.names if (found := _planned(outputs, name)) is not None]
    return _reading(outputs, _levels(outputs, every)) if every else None


def _planned(outputs: Outputs, name: str) -> Planned | None:
    """Return an output with what its columns are, None if it is no table of boxes and scores."""
    if is_picked(outputs.graph, Span(name)):
        return None
    for axis in _column_axes(outputs, name):
        plan = plan_of(outputs, name, outputs.segments(name, axis), axis)
        if plan is not None:
            return Planned(name, axis, plan)
    return None


def _levels(outputs: Outputs, every: Sequence[Planned]) -> list[Planned]:
    """Return the tables that are levels of one: those with the columns of the first, each with rows of its own number.

    A table that is like another one is no further level, as where two heads give their candidates.
    """
    first = every[0]
    levels: dict[tuple[Dim, ...], Planned] = {}
    for one in every:
        shape = outputs.shape(one.name)
        rows = (*shape[1 : one.axis], *shape[one.axis + 1 :])
        if (one.axis, one.plan, len(shape)) == (first.axis, first.plan, len(outputs.shape(first.name))):
            levels.setdefault(rows, one)
    return list(levels.values())


def _column_axes(outputs: Outputs, name: str) -> list[int]:
    """Return the axes of an output that may be its columns: those beside axes of places."""
    shape = outputs.shape(name)
    if len(shape) not in (3, 4) or any(not isinstance(dim, int) for dim in shape[1:]):
        return []
    if len(shape) == 4:
        return [axis for axis in (1, 3) if all(outputs.places(name, other) for other in {1, 2, 3} - {axis})]
    return [axis for axis in (1, 2) if outputs.places(name, 3 - axis)]


def plan_of(outputs: Outputs, name: str, segments: Sequence[Segment], axis: int) -> Plan | None:
    """Return which columns are what, None if they are no boxes and scores."""
    if segments and segments[0].made == "sigmoid":
        return _scores_first(segments)
    boxes = _boxes_first(segments)
    if boxes is None:
        return None
    decoded, rest = boxes
    return _with_scores(outputs, Part(name, axis, 0, 4), decoded, rest)


def _scores_first(segments: Sequence[Segment]) -> Plan | None:
    """Return the plan of a table that starts with a score: NanoDet's, or FastestDet's."""
    first, *rest = segments
    if len(rest) == 1 and rest[0].made == "layer" and rest[0].count > 4 and rest[0].count % 4 == 0:
        return Plan((rest[0].start, rest[0].stop), (first.start, first.stop), decoded=False)
    kinds = [segment.made for segment in segments]
    if kinds in (["sigmoid", "layer", "softmax"], ["sigmoid", "layer", "sigmoid"]) and first.count == 1:
        box, classes = rest
        if box.count == 4:
            return Plan((box.start, box.stop), (classes.start, classes.stop), first.start, decoded=False)
    return None


def _boxes_first(segments: Sequence[Segment]) -> tuple[bool, list[Segment]] | None:
    """Return whether the first four columns are decoded boxes, and what follows; None if they are no boxes."""
    made: set[str] = set()
    for index, segment in enumerate(segments):
        made.add(segment.made)
        if segment.stop > 4 or not made <= {"computed", "layer"}:
            return None
        if segment.stop == 4:
            return "computed" in made, list(segments[index + 1 :])
    return None


def _with_scores(outputs: Outputs, box: Part, decoded: bool, rest: Sequence[Segment]) -> Plan | None:
    """Return the plan of a table with boxes first, from what follows them."""
    if rest and rest[0].made == "constant" and rest[0].count == 1:
        scores = _probabilities(rest[1:])
        return Plan((0, 4), (scores[0].start, scores[0].stop), decoded=decoded) if len(scores) == 1 else None
    scores = _probabilities(rest)
    if not scores or scores[0].start != 4:
        return None
    first, last = scores[0], scores[-1]
    if len(scores) > 1:
        return Plan((0, 4), (last.start, last.stop), first.start, decoded) if first.count == 1 else None
    if _has_objectness(outputs, box, first):
        return Plan((0, 4), (first.start + 1, first.stop), first.start, decoded)
    return Plan((0, 4), (first.start, first.stop), None, decoded) if decoded else None


def _probabilities(segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments that are probabilities; key points' visibilities, between coordinates, are not among them."""
    return [segment for segment in segments if segment.made in PROBABILITIES]


def _has_objectness(outputs: Outputs, box: Part, scores: Segment) -> bool:
    """Tell whether the first of the scores is an objectness: by the number of names, or as boxes come from the same."""
    if outputs.label_count in (scores.count, scores.count - 1):
        return outputs.label_count == scores.count - 1
    made = {origin.name for origin in scores.run.origins}
    shared = backward(outputs.graph.uses, [origin.name for origin in box_origins(outputs, box)]).tensors
    return scores.count > 1 and made <= shared


def box_origins(outputs: Outputs, box: Part) -> list[Part]:
    """Return the tensors that boxes are computed in, without the movements behind."""

    return [Part(origin.name) for origin in origins(outputs.graph, box.span)]


def _reading(outputs: Outputs, levels: Sequence[Planned]) -> OneTable:
    """Return the reading of levels, or of one output with all candidates, whose columns are the same."""
    plan = levels[0].plan

    def parts(columns: tuple[int, int]) -> tuple[Part, ...]:
        return tuple(Part(one.name, one.axis, *columns) for one in levels)

    objectness = () if plan.objectness is None else parts((plan.objectness, plan.objectness + 1))
    powers = _FASTEST_DET if plan.is_one_map else (1, 1)
    scores = Scores(parts(plan.classes), objectness, powers=powers)
    boxes = _boxes(outputs, parts(plan.boxes), plan)
    return OneTable(
        outputs=[one.name for one in levels],
        box_tensors=[part.name for box in boxes.parts for part in box_origins(outputs, box)],
        scores=scores,
        boxes=boxes,
        read_by=outputs,
        notes=table_notes(scores, boxes),
    )


def _boxes(outputs: Outputs, parts: tuple[Part, ...], plan: Plan) -> BoxColumns:
    """Return how the boxes are told."""
    if plan.decoded:
        return BoxColumns(parts, outputs.form_of(parts[0].span) or _stated(outputs))
    maps = [level_maps(outputs, part.span, part.count) for part in parts]
    known = [one for level in maps if level is not None for one in level]
    if None in maps:
        return BoxColumns(parts, None)
    return BoxColumns(parts, CORNER_BINS if parts[0].count > 4 else _offsets(plan), tuple(known))


def _offsets(plan: Plan) -> Decoding:
    """Return the decoding of four raw numbers: FastestDet's behind the objectness, else YOLOX's."""
    return TANH_AND_SIGMOID if plan.is_one_map else GRID_AND_EXP


def _stated(outputs: Outputs) -> BoxForm | None:
    """Return the form of boxes that metadata of Ultralytics stand for, None if there are none."""
    known = {"task", "stride", "names"} <= outputs.evidence.props.keys()
    return BoxForm("cxcywh", "pixels") if known else None
