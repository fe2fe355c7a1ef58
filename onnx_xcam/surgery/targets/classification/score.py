"""The class score: how a tensor is seen as `[N, C]`, and which of its classes are explained, given ones or the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import is_whole, several, shown
from onnx_xcam.contract import ClassInput
from onnx_xcam.errors import ClassError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.target import Choice, Selection, Target

Form = Literal["classes", "logit"]
_ASKED_SHAPE = ("xcam_M", "xcam_K")


@dataclass(frozen=True, kw_only=True)
class Score(Target):
    """The scores of a classifier, one for each image and class.

    Attributes:
        form: "classes", or "logit" for one logit per image, which is two classes.
        classes: the axis of the classes, None for a logit.
        threshold: of one number, from where on it speaks for class 1.
        and those of `Target`.
    """

    task: ClassVar[str] = "classification"

    form: Form
    classes: int | None
    threshold: float = 0.0

    @property
    def count(self) -> Dim:
        """The number of classes: a number, a symbol, or None."""
        return 2 if self.classes is None else self.shape[self.classes]

    @property
    def class_count(self) -> int | None:
        """The number of classes, where it is a number."""
        return self.count if isinstance(self.count, int) else None

    def unit_axes(self) -> list[int]:
        """The axes of size 1 that are neither images nor classes."""
        return [axis for axis in range(len(self.shape)) if axis not in (self.batch, self.classes)]

    def select(
        self, graph: Graph, emitter: Emitter, class_input: ClassInput, classes: Sequence[int] | None
    ) -> Selection:
        """Emit the choice of classes: given ones, or -1, -2, ... for the best, the second best, ...

        Raises:
            ClassError: classes were given that do not fit the form or the number of classes.
        """
        table = _table(graph, emitter, self)
        asked = _asked(emitter, self, class_input, classes)
        chosen = asked.expand([shapes.dim_part(table, 0), 1], (table.shape[0], asked.shape[1]))
        if asked.const is None or (asked.const < 0).any():
            chosen = (chosen < 0).where(_ranked(_compared(emitter, self, table), chosen, asked.const), chosen)
        scores = table.gather_elements(chosen, 1)
        seed = _seed(self, chosen, table)
        scores = scores.cast(np.float32)
        if isinstance(count := chosen.shape[1], str):
            emitter.define_symbol(count, chosen, 1)
        return Selection(
            scores=scores,
            seed=seed,
            outputs={contract.CLASSES: chosen, contract.SCORES: scores},
            inputs=() if class_input == "fixed" else (Choice(asked, np.array([[-1]], np.int64)),),
        )

    def table(self, values: NDArray[Any], images: int) -> NDArray[np.float64]:
        """The scores that the tensor's values of a run are, float64 `[N, C]`; of one number s, -s and s."""
        rows = values.astype(np.float64).reshape(images, -1)
        return np.concatenate([-rows, rows], axis=1) if rows.shape[1] == 1 else rows


def _table(graph: Graph, emitter: Emitter, score: Score) -> Value:
    """The score as `[N, C]`; one logit s as `[N, 2]`, -s and s."""
    s = forward_value(graph, emitter, score.name, "The score")
    s = s.squeeze(score.unit_axes())
    if score.form == "logit":
        s = s.unsqueeze([1])
        return emitter.concat([-s, s], 1)
    return s.unsqueeze([0]) if score.batch is None else s


def _compared(emitter: Emitter, score: Score, table: Value) -> Value:
    """The table `[N, C]` by which the model's own top class is told: of one number, class 1 is it above a threshold."""
    if not score.threshold:
        return table
    return table + emitter.constant(np.array([[2 * score.threshold, 0]], table.dtype))


def _asked(emitter: Emitter, score: Score, class_input: ClassInput, classes: Sequence[int] | None) -> Value:
    if class_input != "fixed":
        if classes is not None:
            raise ClassError('Classes are fixed at surgery only with class_input="fixed"; otherwise feed them later.')
        return emitter.input(contract.CLASS_INPUT, np.int64, _ASKED_SHAPE)
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
    one_hot = lines.one_hot(table.range_of(1), table.dtype)
    if score.form == "classes" and score.batch is not None and not score.unit_axes():
        return one_hot
    if score.form == "logit":
        one_hot = one_hot.slice([1], [2], [2]) - one_hot.slice([0], [1], [2])
        one_hot = one_hot.squeeze([2])
    elif score.batch is None:
        one_hot = one_hot.squeeze([1])
    return one_hot.unsqueeze([axis + 1 for axis in score.unit_axes()])
