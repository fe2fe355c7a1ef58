"""The class score: where it is in the graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnx_xcam.common.arguments import text
from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import Probabilities, shape_text
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.analysis.ends import ends, leads_to, seen
from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.logits import Origin, before_reshape, before_rounding, roundings, step_back
from onnx_xcam.surgery.targets.not_scores import (
    AxisEvidence,
    UnfitError,
    ends_as_features,
    is_normalised,
    is_picked,
    named_otherwise,
    of_rank_three_or_more,
    says_scores,
    told,
)
from onnx_xcam.surgery.targets.probabilities import is_probability, told_of

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
        threshold: of one number, from where on it speaks for class 1.
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
    threshold: float = 0.0

    @property
    def count(self) -> Dim:
        """The number of classes, where it is known."""
        return 2 if self.classes is None else self.shape[self.classes]

    def unit_axes(self) -> list[int]:
        """The axes of size 1 that are neither images nor classes."""
        return [axis for axis in range(len(self.shape)) if axis not in (self.batch, self.classes)]


def find_score(graph: Graph, wanted: str = "auto", sample: Graph | None = None, *, labelled: bool = False) -> Score:
    """The score tensor, and the final activation that was stepped over to find it.

    Args:
        graph: the graph.
        wanted: "auto", or a tensor's name.
        sample: the graph with numbers for a symbolic height and width, if they are symbolic.
        labelled: whether the model has labels of classes, so that it is a classifier.

    Raises:
        ScoreError: no output looks like one score per class, or the named tensor does not.
    """
    text("score", wanted, ScoreError)
    search = _Search(graph, AxisEvidence(graph, sample), labelled)
    score = _found_score(search) if wanted == "auto" else _named_score(search, wanted)
    told = told_of(graph, score.name, score.activation, one=score.form == "logit")
    score = replace(score, probabilities=told.probabilities, logits=told.logits)
    return score if wanted != "auto" or labelled else _with_what_is_assumed(graph, score)


@dataclass(frozen=True)
class _Search:
    """Where a score is looked for."""

    graph: Graph
    evidence: AxisEvidence
    labelled: bool


@dataclass(frozen=True)
class _Candidate:
    """An output that may hold the scores, and what it was made from."""

    output: str
    origin: Origin
    score: Score

    @property
    def is_told(self) -> bool:
        """Whether the model itself makes probabilities or a choice of these scores."""
        return self.origin.activation is not None or self.origin.choice is not None

    @property
    def may_be_a_box(self) -> bool:
        """Whether these are four numbers of 0..1, as the corners of a box are written beside the classes."""
        return self.origin.activation in ("Sigmoid", "HardSigmoid") and self.score.count == 4

    @property
    def otherwise(self) -> str | None:
        """What the output's name says that it is, where neither classes are compared nor one is chosen of it."""
        compared = self.origin.choice or self.origin.activation not in (None, "Sigmoid", "HardSigmoid")
        return None if compared else named_otherwise(self.output)


def _found_score(search: _Search) -> Score:
    graph, refused = search.graph, list[ScoreError]()
    found: dict[str, _Candidate] = {}
    pictured = seen(graph)
    for output in ends(graph):
        origin = step_back(graph, output)
        try:
            if origin.name not in pictured:
                raise ScoreError(f"'{origin.name}' does not depend on the picture.")
            score = _score(search, origin.name, _said(output, origin), origin.activation, threshold=origin.threshold)
        except ScoreError as error:
            refused.append(error)
            continue
        earlier = found.get(score.name)
        if earlier is None or (earlier.score.activation is None and (origin.activation or not earlier.is_told)):
            found[score.name] = _Candidate(output, origin, score)
    if not found:
        raise ScoreError(f"No class score was found among the outputs: {_reasons(search, refused)}")
    chosen, why = _best(graph, list(found.values()))
    if not search.labelled:
        _ask_if_named_otherwise(chosen)
    notes = chosen.score.notes
    if len(found) > 1:
        others = ", ".join(f"'{one.output}'" for one in found.values() if one is not chosen)
        notes = (*notes, f"Score: {why} that look like class scores (others: {others}; choose with --score, score=).")
    return replace(chosen.score, notes=notes)


def _best(graph: Graph, found: Sequence[_Candidate]) -> tuple[_Candidate, str]:
    """The scores that are made of the others, else those that the model makes probabilities of, else the first."""
    names = [one.score.name for one in found]
    made = [
        one
        for one in found
        if not any(leads_to(graph, _source(graph, one.score.name), other) for other in names if other != one.score.name)
    ] or list(found)
    fit = [one for one in made if one.otherwise is None] or made
    told = [one for one in fit if one.origin.activation] or [one for one in fit if one.is_told]
    if any(one.origin.activation in ("Softmax", "LogSoftmax") for one in told):
        told = [one for one in told if not one.may_be_a_box]
    chosen = (told or fit)[0]
    if chosen is found[0]:
        return chosen, "the first of several outputs"
    if not told and len(fit) < len(made):
        return chosen, "the first that is called nothing else of several outputs"
    if not told or len(told) == len(made):
        return chosen, "the last made of the outputs" if len(made) < len(found) else "the first of several outputs"
    how = f"behind a {chosen.origin.activation}" if chosen.origin.activation else "that a class is picked by"
    return chosen, f"the {'one' if len(told) == 1 else 'first'} {how} of several outputs"


def _source(graph: Graph, name: str) -> str:
    """The tensor that holds the same values before they were copied, moved or rounded."""
    while (source := before_reshape(graph, name)) is not None:
        name = source
    return name


def _reasons(search: _Search, refused: Sequence[ScoreError]) -> str:
    """Why no output is a score, and which tensor would do, in as few sentences as possible."""
    unfit = [error for error in refused if isinstance(error, UnfitError)]
    others = dict.fromkeys(str(error) for error in refused if not isinstance(error, UnfitError))
    sentences = [*([told(unfit)] if unfit else []), *others]
    for error in unfit:
        if error.kind == "rows" and (name := _flat_source(search, error.name)) is not None:
            shape = shape_text(search.graph.shape(name) or ())
            sentences.append(f"If each of its numbers is a class, --score '{name}' (score=) takes them as {shape}.")
            break
    return " ".join(sentences)


def _flat_source(search: _Search, name: str) -> str | None:
    """The scores `[N,C]` that were only reshaped to make a tensor, None if there are none."""
    while (source := before_reshape(search.graph, name)) is not None:
        name = source
        try:
            return _score(search, name, (), None, asked=True).shown
        except ScoreError:
            continue
    return None


def _ask_if_named_otherwise(chosen: _Candidate) -> None:
    """Refuse numbers that are called something else than scores where nothing shows that classes are compared by them.

    Raises:
        UnfitError: it is.
    """
    if (what := chosen.otherwise) is not None:
        advice = f"If it holds scores of classes all the same, say so with --score {chosen.output} (score=)."
        unfit = UnfitError(chosen.output, chosen.score.shape, "named", f"{what}, by its name", advice)
        raise ScoreError(f"No class score was found among the outputs: {unfit}")


def _with_what_is_assumed(graph: Graph, score: Score) -> Score:
    """The score with a word on what nothing says: that numbers, neither logits nor probabilities, are scores."""
    if score.form == "logit" or score.probabilities or score.logits or not _is_plain(graph, score):
        return score
    ending = ends_as_features(graph, score.name)
    why = f"it ends in a {ending}, as features do" if ending else "nothing in the model says so"
    shape = shape_text(
        ["N" if axis == score.batch and not isinstance(d, int) else d for axis, d in enumerate(score.shape)]
    )
    count = f"{score.count} classes" if isinstance(score.count, int) else "classes"
    said = f"Score: output '{score.shown}' {shape}, taken for scores of {count}; {why}."
    return replace(score, notes=(said, *score.notes[1:]))


def _is_plain(graph: Graph, score: Score) -> bool:
    """Whether a score is an output that says nothing of what it is: no choice is made of it, its name is none."""
    return (
        score.name in graph.output_names and not says_scores(score.name) and score.notes[0].startswith("Score: output")
    )


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


def _named_score(search: _Search, wanted: str) -> Score:
    graph = search.graph
    if wanted not in graph.tensors or wanted not in {*graph.producer, *graph.input_names}:
        raise ScoreError(
            f"There is no tensor '{wanted}' to take as the score{suggestion(wanted, graph.producer)}; "
            f"the outputs are {', '.join(graph.output_names)}."
        )
    origin = step_back(graph, wanted)
    if origin.name != wanted and _is_behind_its_score(graph, wanted, origin):
        notes = tuple(note.removesuffix(".") + ", as asked." for note in _said(wanted, origin))
        return _score(search, origin.name, notes, origin.activation, asked=True, threshold=origin.threshold)
    notes = (f"Score: '{wanted}', as asked.",)
    return _score(search, wanted, notes, _activation_behind(graph, wanted), asked=True)


def _is_behind_its_score(graph: Graph, wanted: str, origin: Origin) -> bool:
    """Whether a tensor tells of the score without being one: a label, or one probability, which is never negative."""
    single = all(dim == 1 for dim in (graph.shape(wanted) or ())[1:])
    of_one = all(dim == 1 for dim in (graph.shape(origin.name) or ())[1:])
    if not graph.is_float(wanted) and wanted not in graph.quantised:
        return origin.choice is not None
    return single and of_one and origin.activation in ("Sigmoid", "HardSigmoid")


def _activation_behind(graph: Graph, name: str) -> str | None:
    """The final activation that makes an output of this score, if one does."""
    origins = (step_back(graph, output) for output in ends(graph))
    return next((origin.activation for origin in origins if origin.name == name and origin.activation), None)


def _score(
    search: _Search,
    name: str,
    notes: tuple[str, ...],
    activation: str | None,
    *,
    asked: bool = False,
    threshold: float = 0.0,
) -> Score:
    graph, shown = search.graph, search.graph.shown(name)
    name = before_rounding(graph, name)
    shape = graph.shape(name)
    if shape is None:
        raise ScoreError(f"The shape of '{name}' is unknown.")
    if not graph.is_float(name):
        raise ScoreError(f"'{name}' holds {graph.dtype(name)} values, which have no gradient.")
    if is_picked(graph, name):
        raise ScoreError(
            f"'{name}' is what NonMaxSuppression has picked: boxes, as detectors give, not one score per class."
        )
    if not shape:
        raise ScoreError(f"'{name}' is a single number without an axis of images or classes.")
    batch, classes = _axes(search, name, shape)
    if (not asked or len(shape) == 1) and classes is not None and (kind := search.evidence.places(name, classes)):
        raise UnfitError(name, shape, kind)
    if activation is None and is_normalised(graph, name):
        if not asked:
            raise UnfitError(
                name, shape, "embedding", advice=f"--score {name} (score=) takes its numbers for classes all the same."
            )
        notes = (
            *notes,
            f"'{name}' is divided by its own length, as embeddings are; its numbers are taken for classes.",
        )
    form: Form = "logit" if classes is None else "classes"
    if form == "logit":
        said, threshold = _one_number(graph, name, activation, threshold)
        notes = (*notes, said)
    unclipped = frozenset(node.outputs[0].name for node in roundings(graph, name))
    return Score(name, shown, unclipped, shape, form, batch, classes, activation, notes, threshold=threshold)


def _axes(search: _Search, name: str, shape: Shape) -> tuple[int | None, int | None]:
    """The axis of the images and that of the classes.

    Raises:
        UnfitError: the tensor has others as well, or its first axis is not that of the images.
    """
    wide = [axis for axis, dim in enumerate(shape) if dim != 1]
    if len(shape) == 1:
        if (kind := search.evidence.places(name, 0)) is not None:
            raise UnfitError(name, shape, kind)
        return (0, None) if wide == [] or _is_batch(search.graph, shape[0]) else (None, 0)
    if len([axis for axis in wide if axis]) > 1:
        raise UnfitError(name, shape, of_rank_three_or_more(search.graph, search.evidence, name, shape))
    if (kind := search.evidence.not_images(name)) is not None:
        last = next((axis for axis in wide if axis), None)
        both = last is not None and search.evidence.places(name, last) is not None
        raise UnfitError(name, shape, "map" if both else kind)
    return 0, next((axis for axis in wide if axis), None)


def _one_number(graph: Graph, name: str, activation: str | None, threshold: float) -> tuple[str, float]:
    """What is said of one number per image, and the number from which on it speaks for class 1."""
    what = "class 1 has it as its score, class 0 its negative; class 1 is the top"
    if activation is None and not threshold and is_probability(graph, name):
        return f"One probability: {what} from 0.5.", 0.5
    if activation is None and threshold:
        return f"One number: {what} from {threshold:g}.", threshold
    one = "logit" if activation else "logit or number"
    return f"One {one}: class 1 has this score, class 0 its negative.", 0.0


def _is_batch(graph: Graph, dim: Dim) -> bool:
    """Whether the only dimension of a score is the number of images: the first of an input, or of unknown length."""
    firsts = [shape[0] for name in graph.input_names if not graph.is_constant(name) and (shape := graph.shape(name))]
    return (dim is not None and dim in firsts) or not any(isinstance(length, int) for length in (dim, *firsts))
