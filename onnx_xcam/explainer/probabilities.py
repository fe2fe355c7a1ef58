"""Class probabilities: where a model gives them, or what to make of its logits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import onnx
from numpy.typing import NDArray

from onnx_xcam.errors import ModelError

Squash = Literal["softmax", "sigmoid", "exp", "none"]

_SHAPE_ONLY = ("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Cast")
_SQUASHES: Mapping[str, Squash] = {"Softmax": "none", "Sigmoid": "none", "LogSoftmax": "exp"}


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
        return np.take_along_axis(table, classes, axis=1).astype(np.float32)


def stated_probabilities(metadata: Mapping[str, Any], outputs: Iterable[str]) -> ProbabilitySource | None:
    """What an instrumented model says of itself.

    Raises:
        ModelError: it names an output that it does not have, or a way that nobody knows.
    """
    stated = metadata["probabilities"]
    if stated is None:
        return None
    right = isinstance(stated, list) and len(stated) in (2, 4) and all(isinstance(n, int | float) for n in stated[2:])
    if right and stated[0] in set(outputs) and stated[1] in get_args(Squash):
        return ProbabilitySource(*stated)
    raise ModelError(f"The model's metadata states its probabilities in a wrong way: {stated!r}; instrument it again.")


def find_probabilities(graph: onnx.GraphProto, score: str) -> ProbabilitySource | None:
    """Where the model's own probabilities come out, else its logits, else None: for models that do not state it.

    Follows the score tensor through a Softmax, LogSoftmax or Sigmoid, and nodes that only reshape, to a graph output.
    """
    outputs = {output.name for output in graph.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        if node.op_type in _SHAPE_ONLY or node.op_type in _SQUASHES:
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
            if node.op_type in _SHAPE_ONLY:
                to_visit.append((node.output[0], squash))
            elif squash == "softmax":
                to_visit.append((node.output[0], _SQUASHES[node.op_type]))
    return ProbabilitySource(logits, "softmax") if logits else None
