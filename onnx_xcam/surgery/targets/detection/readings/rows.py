"""This module reads rows that the model itself has picked: each is one object with its box, probability and class.

| rows | families | source |
|---|---|---|
| `[N,n,6+]`: x1 y1 x2 y2 p class, ... | Ultralytics, end to end or with NMS inside | ultralytics/engine/exporter.py, nn/modules/head.py |
| `[n,7]`: image, box, class, p; or image, box, p, class | YOLOv7 for ONNX Runtime; YOLO-NAS | models/experimental.py of WongKinYiu/yolov7; export/detection_to_onnx.py of super-gradients |
| `[n,6]` of one image, or `[N,n,6]`: class, p, x1 y1 x2 y2 | PaddleDetection | ppdet/modeling/post_process.py |
| `[N,n,5]`: x1 y1 x2 y2 p, with labels | MMDetection by MMDeploy | mmdeploy/codebase/mmdet |
| boxes `[N,n,4]`, scores `[N,n]`, labels `[N,n]` | RT-DETR and D-FINE as deployed, YOLO-NAS, TensorFlow's API | tools/export_onnx.py of lyuwenyu/RT-DETR; exporter_lib_v2.py of TensorFlow |

A column is a probability if nothing but movements and picking lie between it and an activation, and a class or an image
if it is made of integers. Rows that only fill up have the probability 0. The scores of a row are the logits of all
classes of the candidate that it was picked from; where these cannot be looked up, the logit of its own class alone.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.autodiff.vjp_model import new_emitter
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.targets.activation_patterns import number
from onnx_xcam.surgery.targets.candidates.appended import Columns
from onnx_xcam.surgery.targets.candidates.class_rows import class_rows
from onnx_xcam.surgery.targets.candidates.label_tables import renumbering
from onnx_xcam.surgery.targets.candidates.logits import Columns as Cut
from onnx_xcam.surgery.targets.detection.boxes import BoxForm
from onnx_xcam.surgery.targets.detection.evidence import WHO, Outputs
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.detection.scores import PROBABILITIES, activated, made_by
from onnx_xcam.surgery.targets.detection.spans import Span, origins, passed
from onnx_xcam.surgery.targets.detection.tables import BoxColumns, Part

_PICKED = BoxForm("x1y1x2y2", "pixels")
"""The form of boxes in one table of rows, with their probability and class."""
_TENSORFLOW = BoxForm("y1x1y2x2", "fractions")
"""The form of boxes of TensorFlow's API, whose output has a name of its own."""


@dataclass(frozen=True, kw_only=True)
class Rows(Reading):
    """A Rows reads objects that the model itself has picked.

    Attributes:
        p: the probabilities.
        labels: the classes.
        boxes: the boxes.
        image: the number of each row's image, where the rows of all images stand in one table; None if they do not.
        count: the number of classes.
        read_by: what the outputs were read by.
    """

    form: ClassVar[str] = "rows that the model has picked"

    p: Part
    labels: Part
    boxes: BoxColumns
    image: Part | None = None
    count: int
    read_by: Outputs

    def emit(self, graph: Graph, emitter: Emitter) -> Columns:
        """Emit scores, probabilities and boxes."""
        p, labels = self._rows(self.p, graph, emitter), self._rows(self.labels, graph, emitter)
        classes = emitter.constant(np.arange(self.count, dtype=np.int64))
        own = labels.squeeze([2]).cast(np.int64).one_hot(classes, np.float32)
        if self.image is not None:
            own = own * self._of_images(graph, emitter)
        boxes = self.boxes.emit(graph, emitter, lambda: self.read_by.emitted_sides(graph, emitter))
        logit = self.p.behind(graph, emitter)
        told = _with_one_more(own * p)
        if logit is None:
            return Columns(scores=told, probabilities=told, boxes=_with_one_more(boxes), are_probabilities=True)
        scores = self._of_all_classes(graph, emitter, labels, own * logit)
        return Columns(scores=_with_one_more(scores), probabilities=told, boxes=_with_one_more(boxes))

    def _of_all_classes(self, graph: Graph, emitter: Emitter, labels: Value, own: Value) -> Value:
        """Return the scores of all classes of each row where they can be looked up, `[N, n, C]`, else those of its own.

        They can where labels are the columns of the table that the row was picked from.
        """
        renumbered = _renumbering(graph, self.labels, self.count) is not None
        found = None if renumbered else class_rows(graph, emitter, self.p.name, _cut(self.p), self.count)
        if found is None:
            return own
        rows, column = self.p.rows(found.rows), self.p.rows(found.columns)
        every = found.table.gather(rows.squeeze([2]), 0)
        if self.image is not None:
            every = every * self._of_images(graph, emitter)
        return column.equal(labels.cast(np.int64)).where(every, own)

    def _rows(self, part: Part, graph: Graph, emitter: Emitter) -> Value:
        """Return a part as float32 `[N, n, ...]`."""
        return part.read(graph, emitter).cast(np.float32)

    def _of_images(self, graph: Graph, emitter: Emitter) -> Value:
        """Return 1 where a row belongs to an image, else 0, `[N, n, 1]`."""
        assert self.image is not None
        assert self.read_by.picture is not None
        picture = forward_value(graph, emitter, self.read_by.picture, WHO)
        numbers = picture.range_of(0).cast(np.float32).unsqueeze([1, 2])
        return self._rows(self.image, graph, emitter).equal(numbers).cast(np.float32)


def _with_one_more(rows: Value | None) -> Value:
    """Return rows with one of zeros behind them, so that there is one even where nothing was found."""
    assert rows is not None
    if isinstance(rows.shape[1], int) and rows.shape[1] > 0:
        return rows
    sizes = [shapes.dim_part(rows, 0), 1, shapes.dim_part(rows, 2)]
    return rows.emitter.concat([rows, rows.filled(sizes, 0)], 1)


# --- finding ----------------------------------------------------------------------------------------------------------


def find(outputs: Outputs) -> Rows | None:
    """Return how the outputs are read, None if they hold no rows."""
    every = _outputs(outputs)
    for name in every:
        shape = outputs.shape(name)
        if len(shape) in (2, 3) and isinstance(shape[-1], int) and shape[-1] >= 5:
            found = _of_one_table(outputs, name, len(shape) - 1, shape[-1])
            if found is not None:
                return found
    return _of_several(outputs, every)


def _outputs(outputs: Outputs) -> list[str]:
    """Return all outputs, integers too."""
    return list(outputs.graph.output_names)


def _of_one_table(outputs: Outputs, name: str, axis: int, count: int) -> Rows | None:
    """Return the reading of a table with boxes and probabilities, None if it has none."""
    images = axis == 2
    kinds = [_kind(outputs, Span(name, axis, column, column + 1)) for column in range(min(count, 8))]

    def part(start: int, stop: int) -> Part:
        return Part(name, axis, start, stop, images)

    if images and kinds[4:5] == ["p"] and (count == 5 or kinds[5] == "integer"):
        labels = part(5, 6) if count > 5 else _labels_beside(outputs, name)
        return None if labels is None else _reading(outputs, part(4, 5), labels, part(0, 4))
    if not images and count == 7 and kinds[0] == "integer" and sorted(kinds[5:7]) == ["integer", "p"]:
        p = kinds.index("p")
        return _reading(outputs, part(p, p + 1), part(11 - p, 12 - p), part(1, 5), part(0, 1))
    if count == 6 and (images or _is_one_image(outputs)) and kinds[:2] == ["integer", "p"]:
        return _reading(outputs, part(1, 2), part(0, 1), part(2, 6))
    return None


def _is_one_image(outputs: Outputs) -> bool:
    """Tell whether the model takes one picture at a time, so that rows without a number are all of that one."""
    return outputs.picture is not None and outputs.shape(outputs.picture)[0] == 1


def _kind(outputs: Outputs, column: Span) -> str:
    """Return "p" for a column of probabilities, "integer" for one of integers, else "other".

    Constants that are joined to the rows only fill up, and are of any kind.
    """
    graph = outputs.graph
    found = {made_by(graph, origin) for origin in origins(graph, column)} - {"constant"}
    if len(found) == 1 and found <= PROBABILITIES:
        return "p"
    made = [origin.name for origin in origins(graph, column) if made_by(graph, origin) != "constant"]
    return "integer" if all(_is_integer(graph, name) for name in made) else "other"


def _is_integer(graph: Graph, name: str) -> bool:
    """Tell whether values are integers, or floats that were integers, 1 perhaps added to them."""
    source, _ = _counted_from(graph, name)
    node = graph.producer.get(source)
    if not graph.is_float(source):
        return True
    return node is not None and traits(node).casts and not graph.is_float(str(node.inputs[0].name))


def _counted_from(graph: Graph, name: str) -> tuple[str, int]:
    """Return integers and 0; or, where 1 is added as class 0 means no object, those before the sum and 1."""
    node = graph.producer.get(name)
    if node is None or node.op != "Add" or not is_standard(node.domain):
        return name, 0
    names = [str(tensor.name) for tensor in node.inputs]
    varying = [one for one in names if number(graph, one) != 1]
    behind = origins(graph, Span(varying[0])) if len(varying) == 1 else []
    return (behind[0].name, 1) if len(behind) == 1 else (name, 0)


def _labels_beside(outputs: Outputs, name: str) -> Part | None:
    """Return the one output of integers with as many rows as a table, None if there is not just one."""
    rows = outputs.shape(name)[:2]
    found = [
        other
        for other in _outputs(outputs)
        if not outputs.graph.is_float(other)
        and len(outputs.shape(other)) == 2
        and _may_equal(outputs.shape(other), rows)
    ]
    return Part(found[0]) if len(found) == 1 else None


def _may_equal(first: Sequence[object], second: Sequence[object]) -> bool:
    """Tell whether no two dimensions are different numbers."""
    return all(a == b or not isinstance(a, int) or not isinstance(b, int) for a, b in zip(first, second, strict=True))


def _of_several(outputs: Outputs, every: Sequence[str]) -> Rows | None:
    """Return the reading of boxes, scores and labels in outputs of their own, None if there are none."""
    for box in every:
        shape = outputs.shape(box)
        if len(shape) in (2, 3) and shape[-1] == 4 and (found := _beside_boxes(outputs, every, box)) is not None:
            return found
    return None


def _beside_boxes(outputs: Outputs, every: Sequence[str], box: str) -> Rows | None:
    """Return the reading of boxes `[N,n,4]`, or `[n,4]` of one image, with the scores and labels of as many rows."""
    rows = outputs.shape(box)[:-1]
    flat = [name for name in every if len(outputs.shape(name)) == len(rows) and _may_equal(outputs.shape(name), rows)]
    flat = [name for name in flat if outputs.shape(name)[-1] != 1]
    scores = [name for name in flat if outputs.graph.is_float(name) and _kind(outputs, Span(name)) == "p"]
    labels = [name for name in flat if name not in scores and _kind(outputs, Span(name)) == "integer"]
    if len(scores) != 1 or len(labels) != 1:
        return None
    images = len(rows) == 2
    return _reading(
        outputs, Part(scores[0], images=images), Part(labels[0], images=images), Part(box, len(rows), 0, 4, images)
    )


def _reading(outputs: Outputs, p: Part, labels: Part, boxes: Part, image: Part | None = None) -> Rows | None:
    """Return a reading, None if the number of classes is not known."""
    count = outputs.label_count or _class_count(outputs, p, labels)
    if count is None:
        return None
    code = _box_form(outputs, boxes)
    notes = (
        f"Scores: {count} classes; each row has the {_logits_of(outputs, p, labels, count)}.",
        f"Boxes: {code.text}.",
        *_scaled_by(outputs, boxes),
    )
    of_scores = {origin.name for origin in origins(outputs.graph, p.span)}
    tensors = [origin.name for origin in origins(outputs.graph, boxes.span) if origin.name not in of_scores]
    return Rows(
        outputs=list(dict.fromkeys([p.name, boxes.name])),
        box_tensors=tensors,
        picks=True,
        p=p,
        labels=labels,
        boxes=BoxColumns((boxes,), code),
        image=image,
        count=count,
        read_by=outputs,
        notes=notes,
    )


def _scaled_by(outputs: Outputs, boxes: Part) -> list[str]:
    """Return what has to be fed where boxes are made with another input than the picture, as RT-DETR's are."""
    used = backward(outputs.graph.uses, [boxes.name]).tensors
    others = [name for name in outputs.graph.input_names if name in used and name != outputs.picture]
    return [
        f"Boxes: they are scaled by the input {name!r}; they are right where it is fed the size of the model's own "
        "picture, not the photo's."
        for name in others
    ]


def _logits_of(outputs: Outputs, p: Part, labels: Part, count: int) -> str:
    """Return in words which logits a row has."""
    graph = outputs.graph
    if (table := _renumbering(graph, labels, count)) is not None:
        return f"logit of its own class, since labels are looked up in '{table}', which does not number the columns"
    found = class_rows(graph, new_emitter(graph), p.name, _cut(p), count)
    return "logit of its own class" if found is None else "logits of all classes"


def _renumbering(graph: Graph, labels: Part, count: int) -> str | None:
    """Return the constant that numbers labels in another way than the columns of scores, None if there is none."""
    return renumbering(graph, passed(graph, labels.span), count)


def _cut(p: Part) -> Cut | None:
    """Return the columns of a part as those of a tensor."""
    return None if p.axis is None else Cut(p.axis, p.start, p.stop)


def _box_form(outputs: Outputs, boxes: Part) -> BoxForm:
    """Return how the rows tell their boxes: as the table that they were picked from, if that is clear."""
    if boxes.name == "detection_boxes":
        return _TENSORFLOW
    return outputs.form_of(boxes.span) or _PICKED


def _class_count(outputs: Outputs, p: Part, labels: Part) -> int | None:
    """Return the number of classes of the table that probabilities were picked from, None if it is not known.

    The columns of a softmax are counted from its first, which may mean no object: labels count either way. Others are
    counted from 0, or from 1 where that is added to the numbers of the columns.
    """
    graph = outputs.graph
    counts, last = set[int](), 0
    for origin in origins(graph, p.span):
        shape = graph.shape(origin.name) or ()
        if made_by(graph, origin) == "constant":
            continue
        if origin.axis is not None and activated(graph, origin) == "softmax":
            last = max(last, origin.stop)
        elif origin.axis is not None and origin.count > 1:
            counts.add(origin.count)
        else:
            free = [dim for axis, dim in enumerate(shape) if axis and not outputs.places(origin.name, axis)]
            counts.update(dim for dim in free if isinstance(dim, int) and dim > 1)
    first = max(_counted_from(graph, origin.name)[1] for origin in origins(graph, labels.span))
    counts = {count + first for count in counts} | ({last} if last else set())
    return counts.pop() if len(counts) == 1 else None
