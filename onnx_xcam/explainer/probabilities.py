"""Class probabilities: where a model gives them, or what to make of its logits."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam.contract import Probabilities
from onnx_xcam.errors import ModelError, ScoreError
from onnx_xcam.metadata import Metadata, Misstated
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.targets.activation_patterns import ACTIVATIONS
from onnx_xcam.surgery.targets.classification.known_classifiers import Known

Squash = Literal["softmax", "sigmoid", "exp", "none"]


_CONTRADICTIONS = {
    ("Sigmoid", "softmax"),
    ("HardSigmoid", "softmax"),
    ("Softmax", "sigmoid"),
    ("LogSoftmax", "sigmoid"),
}


_ROUNDING = 0.05
"""How far quantised probabilities may be beyond 0 and 1."""


@dataclass(frozen=True)
class ProbabilitySource:
    """Which output of the model, [N,C] once flattened, tells the probabilities, and what is still to do to it.

    `squash` is "none" for what a final Softmax or Sigmoid gives, "exp" for a LogSoftmax, "softmax" for the logits, and
    "sigmoid" for those of several labels at once. Integers stand for `(output - zero_point) scale`.
    """

    output: str
    squash: Squash
    scale: float = 1.0
    zero_point: float = 0.0

    def of(self, values: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """float32 [N,K]: the probabilities of the classes, int64 [N,K].

        Args:
            values: the output, [N,C] once flattened. C = 1 is one logit: class 1 has it, class 0 the rest.
            classes: ids.

        Raises:
            ModelError: they are no probabilities.
        """
        table = (values.reshape(len(classes), -1).astype(np.float64) - self.zero_point) * self.scale
        if self.squash == "exp":
            table = np.exp(table)
        elif self.squash == "sigmoid":
            table = np.exp(-np.logaddexp(0, -table))
        elif self.squash == "softmax":
            logits = np.concatenate([np.zeros_like(table), table], axis=1) if table.shape[1] == 1 else table
            with np.errstate(invalid="ignore"):  # of infinite logits; `xcam_status` tells of them
                powers = np.exp(logits - logits.max(axis=1, keepdims=True))
                table = powers / powers.sum(axis=1, keepdims=True)
        if table.shape[1] == 1:
            table = np.concatenate([1 - table, table], axis=1)
        found: NDArray[np.float32] = np.take_along_axis(table, classes, axis=1).astype(np.float32)
        beyond = found[(found < -_ROUNDING) | (found > 1 + _ROUNDING)]
        if beyond.size:
            raise ModelError(
                f"The output '{self.output}' is said to tell probabilities, but it told {beyond[0]:.4g}; turn them off "
                "with --probabilities none (probabilities=), or instrument the original model again."
            )
        return found


@dataclass(frozen=True)
class ModelTold:
    """What a model itself tells of its probabilities.

    Attributes:
        own: the output that tells them; None if none does.
        logits: the output that holds the scores as they are, from which those of a classifier are made; None if there
            is none, or if the scores are certainly no logits.
        activation: the one that makes the model's own, where that is known.
        is_number: whether the score is one number, such as an age, of which nothing is known but that it can go up and
            down.
    """

    own: ProbabilitySource | None
    logits: ProbabilitySource | None
    activation: str | None = None
    is_number: bool = False


def told_by(metadata: Metadata, graph: onnx.GraphProto) -> ModelTold:
    """What an instrumented model says of itself, or what its graph shows where it says nothing.

    Raises:
        ModelError: it names an output that it does not have, or a way that nobody knows.
    """
    outputs = {output.name for output in graph.output}
    if "probabilities" in metadata.unstated:
        own = _found(graph, metadata.score)
    else:
        own = stated_source("probabilities", metadata.probabilities, outputs)
    if "logits" not in metadata.unstated:
        logits = stated_source("logits", metadata.logits, outputs)
        own = None if logits is not None else own
    else:  # instrumented when logits were taken for a classifier's whatever they were
        logits = own if own is not None and own.squash in ("softmax", "sigmoid") else None
        own = None if logits is not None else own
    return ModelTold(own, logits, metadata.activation, metadata.is_number)


def chosen_source(
    choice: str, told: ModelTold, known: Callable[[str], Known | None]
) -> tuple[ProbabilitySource | None, str | None]:
    """The source of the probabilities that are shown, and what is to be said of it: what was assumed, or is missing.

    Args:
        choice: "auto", "softmax", "sigmoid" or "none".
        told: by the model.
        known: what is known of logits, given what is usually taken of them.

    Raises:
        ScoreError: the choice contradicts the model, or the scores are no output.
    """
    if choice == "none":
        return None, None
    if told.own is not None:
        if (told.activation, choice) in _CONTRADICTIONS:
            raise ScoreError(
                f"The model itself makes probabilities by a {told.activation}, which --probabilities {choice} "
                "(probabilities=) contradicts; leave that option out."
            )
        return told.own, None
    if told.logits is not None:
        return _of_logits(choice, told.logits, known)
    if choice != "auto":
        raise ScoreError(
            f"--probabilities {choice} (probabilities=) needs an output of logits, just as a layer with weights makes "
            "them, and this model's score is no such output; leave that option out."
        )
    return None, None


def _of_logits(
    choice: str, logits: ProbabilitySource, known: Callable[[str], Known | None]
) -> tuple[ProbabilitySource | None, str | None]:
    """The source of the probabilities that are made of scores which may be logits, and what is to be said of it."""
    if choice != "auto":
        return replace(logits, squash=_squash(choice)), None
    found = known(logits.squash)
    if found is None:
        return None, (
            f"Probabilities: none, as nothing says that '{logits.output}' holds a classifier's logits; if it does, "
            f"give labels (--labels, labels=) or --probabilities {logits.squash} (probabilities=)."
        )
    if found.how == "none":
        return None, f"Probabilities: none, {found.why}."
    said = f"Probabilities: {found.how} of '{logits.output}', {found.why}."
    return replace(logits, squash=_squash(found.how)), said


def _squash(how: str) -> Squash:
    return "sigmoid" if how == "sigmoid" else "softmax"


def stated_source(
    field: str, stated: Probabilities | Misstated | None, outputs: Collection[str]
) -> ProbabilitySource | None:
    """What a field of the metadata says of an output, or None where it says that there is none.

    Raises:
        ModelError: it names an output that is not there, or a way that nobody knows.
    """
    if stated is None:
        return None
    if isinstance(stated, Misstated):
        why = repr(stated.stated)
    elif stated.output not in outputs:
        why = f"they take {field} from {stated.output!r}, which is no output of the original model"
    elif stated.how not in get_args(Squash):
        why = repr(stated.stated())
    else:
        return ProbabilitySource(stated.output, cast("Squash", stated.how), stated.scale, stated.zero_point)
    raise ModelError(f"The model's metadata states its {field} in a wrong way: {why}; instrument it again.")


def _found(graph: onnx.GraphProto, score: str) -> ProbabilitySource | None:
    """Where the model's own probabilities come out, else its logits, else None: for models that do not state it.

    Follows the score tensor through a Softmax, LogSoftmax or Sigmoid, and nodes that only reshape, to a graph output.
    """
    outputs = {output.name for output in graph.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if proto_traits(node).keeps_values or ACTIVATIONS.get(node.op_type):
            readers.setdefault(node.input[0], []).append(node)
    logits: str | None = None
    to_visit: list[tuple[str, Squash]] = [(score, "softmax")]
    while to_visit:
        tensor, squash = to_visit.pop(0)
        if tensor in outputs:
            if squash != "softmax":
                return ProbabilitySource(tensor, squash)
            logits = logits or tensor
        for node in readers.get(tensor, ()):
            if proto_traits(node).keeps_values:
                to_visit.append((node.output[0], squash))
            elif squash == "softmax" and (told := ACTIVATIONS[node.op_type]):
                to_visit.append((node.output[0], told))
    return ProbabilitySource(logits, "softmax") if logits else None
