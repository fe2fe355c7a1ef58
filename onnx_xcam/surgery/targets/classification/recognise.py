"""A classifier is recognised by an output, or a tensor behind one, that holds one score for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx_xcam.common.arguments import text
from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import Probabilities, shape_text
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.analysis.ends import ends, leads_to, seen
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.axis_evidence import AxisEvidence
from onnx_xcam.surgery.targets.classification.form import score_of
from onnx_xcam.surgery.targets.classification.known_classifiers import known_of_logits
from onnx_xcam.surgery.targets.classification.refusals import (
    UnfitError,
    ends_as_features,
    named_otherwise,
    says_scores,
    told,
)
from onnx_xcam.surgery.targets.classification.score import Score
from onnx_xcam.surgery.targets.logits import Origin, before_reshape, step_back
from onnx_xcam.surgery.targets.probabilities import told_of
from onnx_xcam.surgery.targets.target import Evidence


def recognise(evidence: Evidence) -> Score:
    """The class scores of a model.

    Raises:
        ScoreError: it is no classifier, as far as its outputs tell, or the score that is asked for is none.
    """
    labels = evidence.labels
    score = find_score(evidence.graph, evidence.wanted, evidence.sample, labelled=labels is not None)
    return replace(score, probabilities=score.probabilities or _of_classifier(score, evidence.props, labels))


def _of_classifier(score: Score, props: Mapping[str, str], labels: Sequence[str] | None) -> Probabilities | None:
    """What tells probabilities of a model that says itself that it is a classifier."""
    count = score.class_count
    if score.logits is None or (labels is not None and count is not None and len(labels) != count):
        return None
    known = known_of_logits(score.logits.how, count, props, labels, {})
    return None if known is None or known.how == "none" else score.logits._replace(how=known.how)


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
    evidence = AxisEvidence(graph, sample)
    score = _found_score(evidence, labelled=labelled) if wanted == "auto" else _named_score(evidence, wanted)
    of_outputs = told_of(graph, score.name, score.activation, one=score.form == "logit")
    is_number = score.form == "logit" and of_outputs.probabilities is None
    score = replace(score, probabilities=of_outputs.probabilities, logits=of_outputs.logits, is_number=is_number)
    return score if wanted != "auto" or labelled else _with_what_is_assumed(graph, score)


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


def _found_score(evidence: AxisEvidence, *, labelled: bool) -> Score:
    graph, refused = evidence.graph, list[ScoreError]()
    found: dict[str, _Candidate] = {}
    pictured = seen(graph)
    for output in ends(graph):
        origin = step_back(graph, output)
        try:
            if origin.name not in pictured:
                raise ScoreError(f"'{origin.name}' does not depend on the picture.")
            score = score_of(
                evidence, origin.name, _described(output, origin), origin.activation, threshold=origin.threshold
            )
        except ScoreError as error:
            refused.append(error)
            continue
        earlier = found.get(score.name)
        if earlier is None or (earlier.score.activation is None and (origin.activation or not earlier.is_told)):
            found[score.name] = _Candidate(output, origin, score)
    if not found:
        raise ScoreError(f"No class score was found among the outputs: {_reasons(evidence, refused)}")
    chosen, why = _best(graph, list(found.values()))
    if not labelled:
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


def _reasons(evidence: AxisEvidence, refused: Sequence[ScoreError]) -> str:
    """Why no output is a score, and which tensor would do, in as few sentences as possible."""
    unfit = [error for error in refused if isinstance(error, UnfitError)]
    others = dict.fromkeys(str(error) for error in refused if not isinstance(error, UnfitError))
    sentences = [*([told(unfit)] if unfit else []), *others]
    for error in unfit:
        if error.kind == "rows" and (name := _flat_source(evidence, error.name)) is not None:
            shape = shape_text(evidence.graph.shape(name) or ())
            sentences.append(f"If each of its numbers is a class, --score '{name}' (score=) takes them as {shape}.")
            break
    return " ".join(sentences)


def _flat_source(evidence: AxisEvidence, name: str) -> str | None:
    """The scores `[N,C]` that were only reshaped to make a tensor, None if there are none."""
    while (source := before_reshape(evidence.graph, name)) is not None:
        name = source
        try:
            return score_of(evidence, name, (), None, asked=True).shown
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


def _described(output: str, origin: Origin) -> tuple[str, ...]:
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


def _named_score(evidence: AxisEvidence, wanted: str) -> Score:
    graph = evidence.graph
    if wanted not in graph.tensors or wanted not in {*graph.producer, *graph.input_names}:
        raise ScoreError(
            f"There is no tensor '{wanted}' to take as the score{suggestion(wanted, graph.producer)}; "
            f"the outputs are {', '.join(graph.output_names)}."
        )
    origin = step_back(graph, wanted)
    if origin.name != wanted and _is_behind_its_score(graph, wanted, origin):
        notes = tuple(note.removesuffix(".") + ", as asked." for note in _described(wanted, origin))
        return score_of(evidence, origin.name, notes, origin.activation, asked=True, threshold=origin.threshold)
    notes = (f"Score: '{wanted}', as asked.",)
    return score_of(evidence, wanted, notes, _activation_behind(graph, wanted), asked=True)


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
