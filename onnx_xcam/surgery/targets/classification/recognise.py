"""This module recognises a classifier by an output, or a tensor behind one, that holds one score for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from onnx_xcam.common.arguments import text
from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import Probabilities, shape_text
from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.analysis.ends import ends, image_dependent, leads_to
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.axis_evidence import AxisEvidence
from onnx_xcam.surgery.targets.classification.form import score_of
from onnx_xcam.surgery.targets.classification.known_classifiers import known_of_logits
from onnx_xcam.surgery.targets.classification.refusals import (
    UnfitError,
    describe_unfit,
    ends_as_features,
    named_otherwise,
    says_scores,
)
from onnx_xcam.surgery.targets.classification.score import Score
from onnx_xcam.surgery.targets.logits import Origin, before_reshape, step_back
from onnx_xcam.surgery.targets.probabilities import score_outputs
from onnx_xcam.surgery.targets.target import Evidence


def recognise(evidence: Evidence) -> Score:
    """Return the class scores of a model.

    Raises:
        ScoreError: the model is no classifier, as far as its outputs show, or the tensor that is asked for is no score.
    """
    labels = evidence.labels
    score = find_score(evidence.graph, evidence.wanted, evidence.sample, labelled=labels is not None)
    return replace(score, probabilities=score.probabilities or _of_classifier(score, evidence.props, labels))


def _of_classifier(score: Score, props: Mapping[str, str], labels: Sequence[str] | None) -> Probabilities | None:
    """Return what gives the probabilities of a model that states that it is a classifier, None for another model."""
    count = score.class_count
    if score.logits is None or (labels is not None and count is not None and len(labels) != count):
        return None
    known = known_of_logits(score.logits.how, count, props, labels, {})
    return None if known is None or known.how == "none" else score.logits._replace(how=known.how)


def find_score(graph: Graph, wanted: str = "auto", sample: Graph | None = None, *, labelled: bool = False) -> Score:
    """Return the score tensor, with the final activation that was passed to find it.

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
    score = _score_among_outputs(evidence, labelled=labelled) if wanted == "auto" else _named_score(evidence, wanted)
    outputs = score_outputs(graph, score.name, score.activation, one=score.form == "logit")
    is_number = score.form == "logit" and outputs.probabilities is None
    score = replace(score, probabilities=outputs.probabilities, logits=outputs.logits, is_number=is_number)
    return score if wanted != "auto" or labelled else _with_what_is_assumed(graph, score)


@dataclass(frozen=True)
class _Candidate:
    """A _Candidate is an output that may hold the scores, with what it was made from."""

    output: str
    origin: Origin
    score: Score

    @property
    def is_used(self) -> bool:
        """Tell whether the model itself makes probabilities or a choice of these scores."""
        return self.origin.activation is not None or self.origin.choice is not None

    @property
    def may_be_a_box(self) -> bool:
        """Tell whether these are four numbers between 0 and 1, which may be the corners of a box beside the classes."""
        return self.origin.activation in ("Sigmoid", "HardSigmoid") and self.score.count == 4

    @property
    def otherwise(self) -> str | None:
        """Return what the output's name says that it is instead of scores, if nothing compares classes by it."""
        compared = self.origin.choice or self.origin.activation not in (None, "Sigmoid", "HardSigmoid")
        return None if compared else named_otherwise(self.output)


def _score_among_outputs(evidence: AxisEvidence, *, labelled: bool) -> Score:
    """Return the score of the best candidate among the outputs.

    Raises:
        ScoreError: no output looks like one score per class.
    """
    graph, refused = evidence.graph, list[ScoreError]()
    candidates: dict[str, _Candidate] = {}
    pictured = image_dependent(graph)
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
        earlier = candidates.get(score.name)
        if earlier is None or (earlier.score.activation is None and (origin.activation or not earlier.is_used)):
            candidates[score.name] = _Candidate(output, origin, score)
    if not candidates:
        raise ScoreError(f"No class score was found among the outputs: {_reasons(evidence, refused)}")
    chosen, why = _best(graph, list(candidates.values()))
    if not labelled:
        _ask_if_named_otherwise(chosen)
    notes = chosen.score.notes
    if len(candidates) > 1:
        others = ", ".join(f"'{one.output}'" for one in candidates.values() if one is not chosen)
        notes = (*notes, f"Score: {why} that look like class scores (others: {others}; choose with --score, score=).")
    return replace(chosen.score, notes=notes)


def _best(graph: Graph, candidates: Sequence[_Candidate]) -> tuple[_Candidate, str]:
    """Return the candidate that is made of the others, else one that the model makes probabilities of, else the first.

    The second result says in words why it was chosen.
    """
    names = [one.score.name for one in candidates]
    made = [
        one
        for one in candidates
        if not any(leads_to(graph, _source(graph, one.score.name), other) for other in names if other != one.score.name)
    ] or list(candidates)
    fit = [one for one in made if one.otherwise is None] or made
    used = [one for one in fit if one.origin.activation] or [one for one in fit if one.is_used]
    if any(one.origin.activation in ("Softmax", "LogSoftmax") for one in used):
        used = [one for one in used if not one.may_be_a_box]
    chosen = (used or fit)[0]
    if chosen is candidates[0]:
        return chosen, "the first of several outputs"
    if not used and len(fit) < len(made):
        return chosen, "the first that is called nothing else of several outputs"
    if not used or len(used) == len(made):
        return chosen, "the last made of the outputs" if len(made) < len(candidates) else "the first of several outputs"
    how = f"behind a {chosen.origin.activation}" if chosen.origin.activation else "that a class is picked by"
    return chosen, f"the {'one' if len(used) == 1 else 'first'} {how} of several outputs"


def _source(graph: Graph, name: str) -> str:
    """Return the name of the tensor that holds the same values before they were moved, rounded or activated."""
    while (source := before_reshape(graph, name)) is not None:
        name = source
    return name


def _reasons(evidence: AxisEvidence, refused: Sequence[ScoreError]) -> str:
    """Return why no output is a score, and which tensor would do, in as few sentences as possible."""
    unfit = [error for error in refused if isinstance(error, UnfitError)]
    others = dict.fromkeys(str(error) for error in refused if not isinstance(error, UnfitError))
    sentences = [*([describe_unfit(unfit)] if unfit else []), *others]
    for error in unfit:
        if error.kind == "rows" and (name := _flat_source(evidence, error.name)) is not None:
            shape = shape_text(evidence.graph.shape(name) or ())
            sentences.append(f"If each of its numbers is a class, --score '{name}' (score=) takes them as {shape}.")
            break
    return " ".join(sentences)


def _flat_source(evidence: AxisEvidence, name: str) -> str | None:
    """Return the scores `[N,C]` that a tensor is a mere reshaping of, None if there are none."""
    while (source := before_reshape(evidence.graph, name)) is not None:
        name = source
        try:
            return score_of(evidence, name, (), None, asked=True).public_name
        except ScoreError:
            continue
    return None


def _ask_if_named_otherwise(chosen: _Candidate) -> None:
    """Raise ScoreError if the chosen output's name denies that it is scores and nothing compares classes by it."""
    if (what := chosen.otherwise) is not None:
        advice = f"If it holds scores of classes all the same, say so with --score {chosen.output} (score=)."
        unfit = UnfitError(chosen.output, chosen.score.shape, "named", f"{what}, by its name", advice)
        raise ScoreError(f"No class score was found among the outputs: {unfit}")


def _with_what_is_assumed(graph: Graph, score: Score) -> Score:
    """Return the score with a note that its numbers are only assumed to be scores, if nothing in the model says so."""
    if score.form == "logit" or score.probabilities or score.logits or not _is_plain(graph, score):
        return score
    ending = ends_as_features(graph, score.name)
    why = f"it ends in a {ending}, as features do" if ending else "nothing in the model says so"
    shape = shape_text(
        ["N" if axis == score.batch and not isinstance(d, int) else d for axis, d in enumerate(score.shape)]
    )
    count = f"{score.count} classes" if isinstance(score.count, int) else "classes"
    note = f"Score: output '{score.public_name}' {shape}, taken for scores of {count}; {why}."
    return replace(score, notes=(note, *score.notes[1:]))


def _is_plain(graph: Graph, score: Score) -> bool:
    """Tell whether a score is an output without any sign that it is scores, neither a choice nor its name."""
    return (
        score.name in graph.output_names and not says_scores(score.name) and score.notes[0].startswith("Score: output")
    )


def _described(output: str, origin: Origin) -> tuple[str, ...]:
    """Return the note on where the score was found, and what was passed to find it."""
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
    """Return the score that the user named.

    Raises:
        ScoreError: there is no such tensor, or it holds no class scores.
    """
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
    """Tell whether a tensor shows the score without being one: a label, or one probability, which is never negative."""
    single = all(dim == 1 for dim in (graph.shape(wanted) or ())[1:])
    of_one = all(dim == 1 for dim in (graph.shape(origin.name) or ())[1:])
    if not graph.is_float(wanted) and wanted not in graph.quantised:
        return origin.choice is not None
    return single and of_one and origin.activation in ("Sigmoid", "HardSigmoid")


def _activation_behind(graph: Graph, name: str) -> str | None:
    """Return the final activation that makes an output of this score, if there is one."""
    origins = (step_back(graph, output) for output in ends(graph))
    return next((origin.activation for origin in origins if origin.name == name and origin.activation), None)
