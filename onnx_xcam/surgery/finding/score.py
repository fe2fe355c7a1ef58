"""The class score: where it is in the graph, and which classes are explained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onnx_xcam.arguments import is_whole, several, shown, text
from onnx_xcam.contract import CLASS_INPUT, ClassInput, Probabilities, shape_text
from onnx_xcam.errors import ClassError, ScoreError
from onnx_xcam.surgery.emission import shapes
from onnx_xcam.surgery.emission.emitter import Emitter
from onnx_xcam.surgery.emission.shapes import Dim, Shape
from onnx_xcam.surgery.emission.values import Value
from onnx_xcam.surgery.finding.final import Origin, before_rounding, roundings, step_back
from onnx_xcam.surgery.finding.probabilities import told_of
from onnx_xcam.surgery.finding.suggest import suggestion
from onnx_xcam.surgery.graphs.ends import ends, leads_to, makers, seen
from onnx_xcam.surgery.graphs.graph import Graph
from onnx_xcam.surgery.graphs.stored import forward_value

_BOXES = "NonMaxSuppression"

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
        probabilities: the output that tells the model's own probabilities, and how; None if no output does.
        logits: the output that holds the scores, and how probabilities are made of them if they are a classifier's.
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
    probabilities: Probabilities | None = None
    logits: Probabilities | None = None

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
    text("score", wanted, ScoreError)
    score = _found_score(graph) if wanted == "auto" else _named_score(graph, wanted)
    told = told_of(graph, score.name, score.activation, one=score.form == "logit")
    return replace(score, probabilities=told.probabilities, logits=told.logits)


def _found_score(graph: Graph) -> Score:
    reasons: list[str] = []
    found: dict[str, Score] = {}
    pictured = seen(graph)
    for output in ends(graph):
        origin = step_back(graph, output)
        try:
            if origin.name not in pictured:
                raise ScoreError(f"'{origin.name}' does not depend on the picture.")
            score = _score(graph, origin.name, _said(output, origin), origin.activation)
        except ScoreError as error:
            reasons.append(str(error))
            continue
        if score.name not in found or found[score.name].activation is None:
            found[score.name] = score
    if not found:
        listed = " ".join(dict.fromkeys(reasons))
        raise ScoreError(f"No class score was found among the outputs: {listed} Name one with --score.")
    last = [name for name in found if not any(leads_to(graph, name, other) for other in found if other != name)]
    chosen = found[last[0]] if last else next(iter(found.values()))
    if len(found) > 1:
        others = ", ".join(f"'{name}'" for name in found if name != chosen.name)
        first = "the first of several outputs" if chosen.name == next(iter(found)) else "the last made of the outputs"
        note = f"Score: {first} that look like class scores (others: {others}; choose with --score)."
        return replace(chosen, notes=(*chosen.notes, note))
    return chosen


def _said(output: str, origin: Origin) -> tuple[str, ...]:
    """What was stepped over, as a sentence."""
    of_output = f"output '{output}'"
    if origin.choice and origin.activation:
        why = f"the input of the final {origin.activation} whose {origin.choice} is {of_output}"
    elif origin.choice:
        why = f"of which {of_output} is the {origin.choice}"
    elif origin.activation:
        why = f"the input of the final {origin.activation} ({of_output})"
    else:
        return (f"Score: {of_output}.",)
    return (f"Score: '{origin.name}', {why}.",)


def _named_score(graph: Graph, wanted: str) -> Score:
    if wanted in graph.tensors and wanted in {*graph.producer, *graph.input_names}:
        return _score(graph, wanted, (f"Score: '{wanted}', as asked.",), _activation_behind(graph, wanted))
    raise ScoreError(
        f"There is no tensor '{wanted}' to take as the score{suggestion(wanted, graph.producer)}; "
        f"the outputs are {', '.join(graph.output_names)}."
    )


def _activation_behind(graph: Graph, name: str) -> str | None:
    """The final activation that makes an output of this score, if one does."""
    origins = (step_back(graph, output) for output in ends(graph))
    return next((origin.activation for origin in origins if origin.name == name and origin.activation), None)


def _score(graph: Graph, name: str, notes: tuple[str, ...], activation: str | None) -> Score:
    shown = graph.shown(name)
    name = before_rounding(graph, name)
    shape = graph.shape(name)
    if shape is None:
        raise ScoreError(f"The shape of '{name}' is unknown.")
    if not graph.is_float(name):
        raise ScoreError(f"'{name}' holds {graph.dtype(name)} values, which have no gradient.")
    if any(node.op == _BOXES for node in makers(graph, name)):
        raise ScoreError(f"'{name}' is what {_BOXES} has picked: boxes, as detectors give, not one score per class.")
    wide = [axis for axis, dim in enumerate(shape) if dim != 1]
    listed = shape_text(shape)
    batch: int | None = 0
    classes: int | None
    if not shape:
        raise ScoreError(f"'{name}' is a single number without an axis of images or classes.")
    if len(shape) == 1:
        batch, classes = (0, None) if wide == [] or _is_batch(graph, shape[0]) else (None, 0)
    elif len([axis for axis in wide if axis]) > 1:
        what = "scores of each place or box, as detectors give" if len(shape) == 3 else "a map, as segmentation gives"
        raise ScoreError(
            f"'{name}' has the shape {listed} ({what}), not one score per class: [N,C] is needed; detection and "
            "segmentation are not supported."
        )
    else:
        classes = next((axis for axis in wide if axis), None)
    form: Form = "logit" if classes is None else "classes"
    if form == "logit":
        notes = (*notes, "One logit: class 1 has this score, class 0 its negative.")
    unclipped = frozenset(node.outputs[0].name for node in roundings(graph, name))
    return Score(name, shown, unclipped, shape, form, batch, classes, activation, notes)


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
    chosen = asked.expand([shapes.dim_part(table, 0), 1], (table.shape[0], asked.shape[1]))
    if asked.const is None or (asked.const < 0).any():
        chosen = (chosen < 0).where(_ranked(table, chosen, asked.const), chosen)
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
    numbers = [] if classes is None else several("classes", classes, "integers", ClassError)
    if not numbers:
        raise ClassError('class_input="fixed" needs the classes to explain: classes=[281, 282].')
    for number in numbers:
        if not is_whole(number):
            raise ClassError(f"A class is an integer, not {shown(number)}.")
        if isinstance(score.count, int) and not -score.count <= number < score.count:
            raise ClassError(f"Class {number} does not exist: the model has the classes 0 to {score.count - 1}.")
    return emitter.constant(np.array([numbers], np.int64))


def _ranked(table: Value, asked: Value, known: np.ndarray | None) -> Value:
    """For each asked class -r the r-th best class of each image, int64 `[N, K]`; of no meaning where r is not there.

    Args:
        table: the scores, `[N, C]`.
        asked: the classes, int64 `[N, K]`.
        known: the classes where they are fixed, int64 `[1, K]`.
    """
    emitter = table.emitter
    rank = (asked < 0).where(-1 - asked, 0)
    if known is None:
        # In float32, which holds every rank: OpenCV 5 crashes at the largest of int64 numbers.
        depth = rank.cast(np.float32).max([0, 1]).cast(np.int64).squeeze([0]) + 1
    else:  # a number, no node: TVM takes TopK with a constant k alone
        depth = emitter.constant(np.array([-known.min()], np.int64))
    best = emitter.node(
        "TopK", [table, depth], [(table.dtype, (table.shape[0], None)), (np.int64, (table.shape[0], None))], axis=1
    )[1]
    return best.gather_elements(rank, 1)


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
