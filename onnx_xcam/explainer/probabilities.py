"""This module finds where a model gives class probabilities, or how to compute them from its logits."""

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
"""The function that turns an output into probabilities."""


_CONTRADICTIONS = {
    ("Sigmoid", "softmax"),
    ("HardSigmoid", "softmax"),
    ("Softmax", "sigmoid"),
    ("LogSoftmax", "sigmoid"),
}
"""Pairs of a model's own final activation and a choice of probabilities that contradicts it."""


_ROUNDING = 0.05
"""Quantised probabilities may be beyond 0 and 1 by this much."""


@dataclass(frozen=True)
class ProbabilitySource:
    """A ProbabilitySource names the output that probabilities come from, and the function that makes them of it.

    Attributes:
        output: the name of the output, which is [N,C] once flattened.
        squash: the function: "none" behind a final Softmax or Sigmoid, "exp" behind a LogSoftmax, "softmax" for the
            logits of classes, and "sigmoid" for the logits of several labels at once.
        scale, zero_point: of a quantised output, which stands for `(output - zero_point) * scale`.
    """

    output: str
    squash: Squash
    scale: float = 1.0
    zero_point: float = 0.0

    def of(self, values: NDArray[Any], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the probabilities of classes, float32 [N,K].

        Args:
            values: the output, [N,C] once flattened. With C = 1 it is one logit, of class 1; class 0 has the
                complementary probability.
            classes: ids, int64 [N,K].

        Raises:
            ModelError: a result is not within 0..1.
        """
        table = (values.reshape(len(classes), -1).astype(np.float64) - self.zero_point) * self.scale
        if self.squash == "exp":
            table = np.exp(table)
        elif self.squash == "sigmoid":
            table = np.exp(-np.logaddexp(0, -table))
        elif self.squash == "softmax":
            logits = np.concatenate([np.zeros_like(table), table], axis=1) if table.shape[1] == 1 else table
            with np.errstate(invalid="ignore"):  # infinite logits give NaN; `xcam_status` shows them
                powers = np.exp(logits - logits.max(axis=1, keepdims=True))
                table = powers / powers.sum(axis=1, keepdims=True)
        if table.shape[1] == 1:
            table = np.concatenate([1 - table, table], axis=1)
        chosen: NDArray[np.float32] = np.take_along_axis(table, classes, axis=1).astype(np.float32)
        beyond = chosen[(chosen < -_ROUNDING) | (chosen > 1 + _ROUNDING)]
        if beyond.size:
            raise ModelError(
                f"The output '{self.output}' is said to tell probabilities, but it told {beyond[0]:.4g}; turn them off "
                "with --probabilities none (probabilities=), or instrument the original model again."
            )
        return chosen


@dataclass(frozen=True)
class ProbabilityOutputs:
    """ProbabilityOutputs say which outputs of a model hold probabilities or logits.

    Attributes:
        own: the source with the model's own probabilities, or None if it has none.
        logits: the source with the scores themselves, which give the probabilities of a classifier; None if no output
            holds them, or if the scores are certainly no logits.
        activation: the operator that makes the model's own probabilities, where it is known.
        is_number: whether the score is one number, such as an age, which can only go up and down.
    """

    own: ProbabilitySource | None
    logits: ProbabilitySource | None
    activation: str | None = None
    is_number: bool = False


def probability_outputs(metadata: Metadata, graph: onnx.GraphProto) -> ProbabilityOutputs:
    """Return the sources of probabilities that the metadata state, or the graph shows where they state none.

    Raises:
        ModelError: the metadata name an output that does not exist, or an unknown function.
    """
    outputs = {output.name for output in graph.output}
    if "probabilities" in metadata.unstated:
        own = _source_in_graph(graph, metadata.score)
    else:
        own = stated_source("probabilities", metadata.probabilities, outputs)
    if "logits" not in metadata.unstated:
        logits = stated_source("logits", metadata.logits, outputs)
        own = None if logits is not None else own
    else:  # instrumented by a version that took all logits for a classifier's
        logits = own if own is not None and own.squash in ("softmax", "sigmoid") else None
        own = None if logits is not None else own
    return ProbabilityOutputs(own, logits, metadata.activation, metadata.is_number)


def chosen_source(
    choice: str, outputs: ProbabilityOutputs, known: Callable[[str], Known | None]
) -> tuple[ProbabilitySource | None, str | None]:
    """Return the source of the probabilities that are shown, or None, and a note on what was assumed or is missing.

    Args:
        choice: "auto", "softmax", "sigmoid" or "none".
        outputs: the outputs of the model that hold probabilities or logits.
        known: a function that returns what is known about the logits, given their usual function.

    Raises:
        ScoreError: the choice contradicts the model, or the scores are no output.
    """
    if choice == "none":
        return None, None
    if outputs.own is not None:
        if (outputs.activation, choice) in _CONTRADICTIONS:
            raise ScoreError(
                f"The model itself makes probabilities by a {outputs.activation}, which --probabilities {choice} "
                "(probabilities=) contradicts; leave that option out."
            )
        return outputs.own, None
    if outputs.logits is not None:
        return _of_logits(choice, outputs.logits, known)
    if choice != "auto":
        raise ScoreError(
            f"--probabilities {choice} (probabilities=) needs an output of logits, just as a layer with weights makes "
            "them, and this model's score is no such output; leave that option out."
        )
    return None, None


def _of_logits(
    choice: str, logits: ProbabilitySource, known: Callable[[str], Known | None]
) -> tuple[ProbabilitySource | None, str | None]:
    """Return the source of probabilities that are computed from scores which may be logits, and a note on it."""
    if choice != "auto":
        return replace(logits, squash=_squash(choice)), None
    knowledge = known(logits.squash)
    if knowledge is None:
        return None, (
            f"Probabilities: none, as nothing says that '{logits.output}' holds a classifier's logits; if it does, "
            f"give labels (--labels, labels=) or --probabilities {logits.squash} (probabilities=)."
        )
    if knowledge.how == "none":
        return None, f"Probabilities: none, {knowledge.why}."
    note = f"Probabilities: {knowledge.how} of '{logits.output}', {knowledge.why}."
    return replace(logits, squash=_squash(knowledge.how)), note


def _squash(how: str) -> Squash:
    """Return the function of logits for a choice, softmax unless sigmoid is chosen."""
    return "sigmoid" if how == "sigmoid" else "softmax"


def stated_source(
    field: str, stated: Probabilities | Misstated | None, outputs: Collection[str]
) -> ProbabilitySource | None:
    """Return the source that a field of the metadata states, or None where it states that there is none.

    Raises:
        ModelError: the field names an output that does not exist, or an unknown function.
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


def _source_in_graph(graph: onnx.GraphProto, score: str) -> ProbabilitySource | None:
    """Return the output with a model's own probabilities, else that with its logits, else None.

    The score tensor is followed to a graph output, through a Softmax, LogSoftmax or Sigmoid and through nodes that keep
    all values.
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
            elif squash == "softmax" and (after := ACTIVATIONS[node.op_type]):
                to_visit.append((node.output[0], after))
    return ProbabilitySource(logits, "softmax") if logits else None
