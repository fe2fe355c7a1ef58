"""The class score: where it is in the graph, and which classes are explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnx_xcam.contract import CLASS_INPUT, ClassInput, shape_text
from onnx_xcam.errors import ClassError, ScoreError
from onnx_xcam.surgery import shapes
from onnx_xcam.surgery.emitter import Emitter
from onnx_xcam.surgery.graph import Graph
from onnx_xcam.surgery.shapes import Dim, Shape
from onnx_xcam.surgery.stored import float_for, forward_value
from onnx_xcam.surgery.suggest import suggestion
from onnx_xcam.surgery.values import Value

FINAL_ACTIVATIONS = frozenset({"Softmax", "LogSoftmax", "Sigmoid"})
_ROUNDED = frozenset({"QuantizeLinear", "DequantizeLinear"})
_PASSED = _ROUNDED | {"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Dropout", "Cast"}

Form = Literal["classes", "logit"]


@dataclass(frozen=True)
class Score:
    """The score tensor S, before any softmax, and how it is seen as `[N, C]`.

    Attributes:
        name: the tensor.
        shown: what it is called outside.
        unclipped: the quantised tensors that it was rounded to last; their clipping does not count.
        shape: its static shape.
        form: "classes", or "logit" for one logit per image, which is two classes.
        batch: the axis of the images, None if there is none (N = 1).
        classes: the axis of the classes, None for a logit.
        activation: the final activation that was stepped over, if one was.
        notes: what was assumed, in sentences.
    """

    name: str
    shown: str
    unclipped: frozenset[str]
    shape: Shape
    form: Form
    batch: int | None
    classes: int | None
    activation: str | None
    notes: tuple[str, ...]

    @property
    def count(self) -> Dim:
        """The number of classes, where it is known."""
        return 2 if self.classes is None else self.shape[self.classes]

    def unit_axes(self) -> list[int]:
        """The axes of size 1 that are neither images nor classes."""
        return [axis for axis in range(len(self.shape)) if axis not in (self.batch, self.classes)]


def find_score(graph: Graph, wanted: str = "auto") -> Score:
    """The score tensor, and the final activation that was stepped over to find it.

    Raises:
        ScoreError: no output looks like one score per class, or the named tensor does not.
    """
    if wanted != "auto":
        return _named_score(graph, wanted)
    reasons: list[str] = []
    found: list[Score] = []
    for output in graph.output_names:
        name, activation = step_back(graph, output)
        try:
            found.append(_score(graph, name, _said(output, name, activation), activation))
        except ScoreError as error:
            reasons.append(str(error))
    if not found:
        raise ScoreError(f"No class score was found among the outputs: {' '.join(reasons)} Name one with --score.")
    chosen = found[0]
    if len(found) > 1:
        others = ", ".join(f"'{score.name}'" for score in found[1:])
        note = f"Score: the first of several outputs that look like class scores (others: {others})."
        return Score(**{**chosen.__dict__, "notes": (*chosen.notes, note)})
    return chosen


def _before_rounding(graph: Graph, name: str) -> str:
    """The float that a quantised tensor stands for; any other tensor as it is."""
    while name in graph.quantised and (found := float_for(graph, name)) == name:
        name = graph.producer[name].inputs[0].name
    return found if name in graph.quantised else name


def _roundings(graph: Graph, name: str) -> frozenset[str]:
    """The quantised tensors that a score goes through last, with nothing but moving behind them."""
    found = set()
    while (node := graph.producer.get(name)) is not None and node.op in _PASSED:
        if node.op == "QuantizeLinear":
            found.add(name)
        name = node.inputs[0].name
    return frozenset(found)


def _said(output: str, name: str, activation: str | None) -> tuple[str, ...]:
    if activation is None:
        return (f"Score: output '{name}'.",)
    return (f"Score: '{name}', the input of the final {activation} (output '{output}').",)


def _named_score(graph: Graph, wanted: str) -> Score:
    if wanted in graph.tensors and wanted in {*graph.producer, *graph.input_names}:
        return _score(graph, wanted, (f"Score: '{wanted}', as asked.",), _activation_behind(graph, wanted))
    raise ScoreError(
        f"There is no tensor '{wanted}' to take as the score{suggestion(wanted, graph.producer)}; "
        f"the outputs are {', '.join(graph.output_names)}."
    )


def _activation_behind(graph: Graph, name: str) -> str | None:
    """The final activation that makes an output of this score, if one does."""
    for output in graph.output_names:
        source, activation = step_back(graph, output)
        if source == name:
            return activation
    return None


def step_back(graph: Graph, output: str) -> tuple[str, str | None]:
    """The tensor before a final softmax or sigmoid, and that activation; the output itself if there is none."""
    name = output
    while (node := graph.producer.get(name)) is not None and node.domain in ("", "ai.onnx", None):
        if node.op in FINAL_ACTIVATIONS:
            return str(node.inputs[0].name), str(node.op)
        if node.op not in _PASSED:
            break
        name = node.inputs[0].name
    return output, None


def _score(graph: Graph, name: str, notes: tuple[str, ...], activation: str | None) -> Score:
    shown = graph.shown(name)
    name = _before_rounding(graph, name)
    shape = graph.shape(name)
    if shape is None:
        raise ScoreError(f"The shape of '{name}' is unknown.")
    if not graph.is_float(name):
        raise ScoreError(f"'{name}' holds {graph.dtype(name)} values, which have no gradient.")
    wide = [axis for axis, dim in enumerate(shape) if dim != 1]
    listed = shape_text(shape)
    batch: int | None = 0
    classes: int | None
    if not shape:
        raise ScoreError(f"'{name}' is a single number without an axis of images or classes.")
    if len(shape) == 1:
        batch, classes = (0, None) if wide == [] or _is_batch(graph, shape[0]) else (None, 0)
    elif len([axis for axis in wide if axis]) > 1:
        raise ScoreError(
            f"'{name}' has the shape {listed}, not one score per class: [N,C] is needed (maps and boxes are not "
            "supported yet)."
        )
    else:
        classes = next((axis for axis in wide if axis), None)
    form: Form = "logit" if classes is None else "classes"
    if form == "logit":
        notes = (*notes, "One logit: class 1 has this score, class 0 its negative.")
    return Score(name, shown, _roundings(graph, name), shape, form, batch, classes, activation, notes)


def _is_batch(graph: Graph, dim: Dim) -> bool:
    """Whether a dimension is the number of images: the first dimension of an input."""
    firsts = [shape[0] for name in graph.input_names if not graph.is_constant(name) and (shape := graph.shape(name))]
    return dim in firsts if dim is not None else not any(isinstance(first, int) for first in firsts)


@dataclass(frozen=True)
class Selection:
    """The classes to explain.

    Attributes:
        classes: int64 `[N, K]`.
        scores: float32 `[N, K]`.
        seed: gradient of each class score with respect to the score tensor, `[K, *score.shape]`.
    """

    classes: Value
    scores: Value
    seed: Value


def select_classes(
    graph: Graph, emitter: Emitter, score: Score, class_input: ClassInput, classes: Sequence[int] | None
) -> Selection:
    """Emit the choice of classes: given ones, or -1, -2, ... for the best, the second best, ...

    Raises:
        ClassError: classes were given that do not fit the form or the number of classes.
    """
    table = score_table(graph, emitter, score)
    asked = _asked(emitter, score, class_input, classes)
    images = shapes.dim_part(table, 0)
    ranked = _ranked(table, asked, images) if asked.const is None or (asked.const < 0).any() else None
    chosen = asked if ranked is None else (asked < 0).where(ranked, asked)
    chosen = chosen.expand([images, 1], (table.shape[0], asked.shape[1]))
    scores = table.gather_elements(chosen, 1)
    seed = _seed(score, chosen, table)
    return Selection(chosen, scores.cast(np.float32), seed)


def score_table(graph: Graph, emitter: Emitter, score: Score) -> Value:
    """The score as `[N, C]`; one logit s as `[N, 2]`, -s and s."""
    s = forward_value(graph, emitter, score.name, "The score")
    s = s.squeeze(score.unit_axes())
    if score.form == "logit":
        s = s.unsqueeze([1])
        return emitter.concat([-s, s], 1)
    return s.unsqueeze([0]) if score.batch is None else s


def _asked(emitter: Emitter, score: Score, class_input: ClassInput, classes: Sequence[int] | None) -> Value:
    if class_input != "fixed":
        if classes is not None:
            raise ClassError('Classes are fixed at surgery only with class_input="fixed"; otherwise feed them later.')
        return emitter.input(CLASS_INPUT, np.int64, ("xcam_M", "xcam_K"))
    try:
        numbers = [] if classes is None else list(classes)
    except TypeError as error:
        raise ClassError(f"classes is a list of integers, not {classes!r}.") from error
    if not numbers:
        raise ClassError('class_input="fixed" needs the classes to explain: classes=[281, 282].')
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise ClassError(f"A class is an integer, not {number!r}.")
        if isinstance(score.count, int) and not -score.count <= number < score.count:
            raise ClassError(f"Class {number} does not exist: the model has the classes 0 to {score.count - 1}.")
    return emitter.constant(np.array([numbers], np.int64))


def _ranked(table: Value, asked: Value, images: shapes.Part) -> Value:
    """For each asked class -r the r-th best class of each image, int64 `[N, K]`; of no meaning where r is not there."""
    emitter = table.emitter
    rank = (asked < 0).where(-1 - asked, 0)
    depth = rank.max([0, 1]).squeeze([0]) + 1
    best = emitter.node(
        "TopK", [table, depth], [(table.dtype, (table.shape[0], None)), (np.int64, (table.shape[0], None))], axis=1
    )[1]
    return best.gather_elements(rank.expand([images, 1], (table.shape[0], asked.shape[1])), 1)


def _seed(score: Score, chosen: Value, table: Value) -> Value:
    lines = chosen.transpose([1, 0])
    one_hot = lines.unsqueeze([2]).equal(table.range_of(1)).cast(table.dtype)
    if score.form == "classes" and score.batch is not None and not score.unit_axes():
        one_hot.one_hot = lines
        return one_hot
    if score.form == "logit":
        one_hot = one_hot.slice([1], [2], [2]) - one_hot.slice([0], [1], [2])
        one_hot = one_hot.squeeze([2])
    elif score.batch is None:
        one_hot = one_hot.squeeze([1])
    return one_hot.unsqueeze([axis + 1 for axis in score.unit_axes()])
