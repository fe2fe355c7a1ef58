"""This module defines the score table of a task with many candidates, and how its cells are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.methods import OBJECTS_METHOD
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.asking import asked_cells
from onnx_xcam.surgery.targets.candidates.appended import BOXES, PROBABILITIES, RANKS
from onnx_xcam.surgery.targets.candidates.choice import cells, kept, of_those_that_exist, rows
from onnx_xcam.surgery.targets.target import Choosing, Selection, Target

_CERTAIN = 1e-6
"""The least that p (1 - p) counts for where a logit's gradient is made of that of a probability p."""


@dataclass(frozen=True, kw_only=True)
class CandidateTable(Target):
    """A CandidateTable describes the scores `[N, Q, C]` of Q candidates in each image.

    Attributes:
        has_boxes: whether the boxes of the candidates are known.
        are_probabilities: whether the table holds probabilities p, of which the logits' gradients are made.
    """

    default_method: ClassVar[str] = OBJECTS_METHOD

    has_boxes: bool = False
    are_probabilities: bool = False

    @property
    def class_count(self) -> int | None:
        """Return the number of classes, None if it is not a number."""
        return self.shape[2] if isinstance(self.shape[2], int) else None

    @property
    def candidate_count(self) -> int | None:
        """Return the number of candidates, None if it depends on the picture."""
        return self.shape[1] if isinstance(self.shape[1], int) else None

    def select(self, graph: Graph, emitter: Emitter, choosing: Choosing) -> Selection:
        """Emit the choice of objects, and of a class of each.

        Raises:
            ClassError: the given classes or objects do not exist.
        """

        def table(name: str) -> Value:
            return forward_value(graph, emitter, name, "The table of candidates")

        scores, probabilities = table(self.name), table(PROBABILITIES)
        asked = asked_cells(
            emitter, choosing, scores, class_count=self.class_count, candidate_count=self.candidate_count
        )
        objects = kept(asked.objects, table(RANKS), asked.known)
        told = rows(probabilities, objects.candidates)
        classes = (asked.classes < 0).where(told.argmax(2).squeeze([2]), asked.classes)
        weights = asked.weights(classes, scores.range_of(2), scores.dtype)
        p = cells(told, classes)
        if self.are_probabilities:
            score, slope = _of_probabilities(rows(scores, objects.candidates))
            weights = weights * slope
        else:
            score = rows(scores, objects.candidates)
        score = (score * asked.weights(classes, scores.range_of(2), scores.dtype)).sum([2], keepdims=False)
        outputs = {
            contract.CLASSES: of_those_that_exist(objects, classes, -1),
            contract.SCORES: of_those_that_exist(objects, score, 0).cast(np.float32),
            contract.OBJECTS: of_those_that_exist(objects, objects.candidates, -1),
            contract.PROBABILITIES: of_those_that_exist(objects, p, 0).cast(np.float32),
        }
        if self.has_boxes:
            boxes = rows(table(BOXES), objects.candidates)
            outputs[contract.BOXES] = objects.exist.unsqueeze([2]).where(boxes, 0).cast(np.float32)
        weights = objects.exist.unsqueeze([2]).where(weights, 0)
        return Selection(
            scores=outputs[contract.SCORES],
            seed=_seed(weights, objects.candidates, scores),
            outputs=outputs,
            inputs=asked.inputs,
            exists=objects.exist,
            candidates=objects.candidates,
            weights=weights,
        )

    def table(self, values: NDArray[Any], images: int) -> NDArray[np.float64]:
        """Return the table's values in a run, of probabilities their logits, float64 `[N, Q C]`."""
        scores = values.astype(np.float64).reshape(images, -1)
        if self.are_probabilities:
            scores = np.log(np.maximum(scores, _CERTAIN) / np.maximum(1 - scores, _CERTAIN))
        return scores

    def cell(self, found: Mapping[str, NDArray[Any]]) -> int:
        """Return which column of `table` holds the first object of the first image."""
        assert self.class_count is not None  # no reading leaves the number of classes open
        return int(found[contract.OBJECTS][0, 0]) * self.class_count + int(found[contract.CLASSES][0, 0])


def _of_probabilities(p: Value) -> tuple[Value, Value]:
    """Emit the logits of probabilities, and the derivative of a logit by its probability: 1 / (p (1 - p))."""
    rest = 1 - p
    logit = (p.maximum(_CERTAIN) / rest.maximum(_CERTAIN)).log()
    return logit, 1 / (p * rest).maximum(_CERTAIN)


def _seed(weights: Value, candidates: Value, scores: Value) -> Value:
    """Emit the gradient of the chosen scores with respect to the table, `[K, N, Q, C]`.

    Args:
        weights: the weight of each class in the score of an object, `[N, K, C]`.
        candidates: int64 `[N, K]`.
        scores: the table, `[N, Q, C]`.
    """
    at = candidates.transpose([1, 0]).one_hot(scores.range_of(1), scores.dtype)
    return at.unsqueeze([3]) * weights.transpose([1, 0, 2]).unsqueeze([2])
