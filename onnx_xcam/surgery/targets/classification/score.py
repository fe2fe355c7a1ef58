"""This module defines the class score: how a tensor is read as `[N, C]`, and which classes are explained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.common.arguments import is_whole, several, short_repr
from onnx_xcam.contract import Task
from onnx_xcam.errors import ClassError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.asking import contrast_input, contrasted
from onnx_xcam.surgery.targets.target import Choice, Choosing, Selection, Target

Form = Literal["classes", "logit"]
"""The two forms of a classifier's scores: one per class, or a single logit per image."""
_ASKED_SHAPE = ("xcam_M", "xcam_K")
"""The symbolic shape of the class input: one row or one per image, and K classes."""


@dataclass(frozen=True, kw_only=True)
class Score(Target):
    """A Score describes the scores of a classifier, one for each image and class.

    Attributes:
        form: "classes", or "logit" for one logit per image, which stands for two classes.
        classes: the axis of the classes, None for a logit.
        threshold: for one number per image, the value above which it means class 1.
    """

    task: ClassVar[Task] = "classification"
    only: ClassVar[str] = "Only classifiers of pictures are explained."
    doubt: ClassVar[str] = "Is this an image classifier?"

    form: Form
    classes: int | None
    threshold: float = 0.0

    @property
    def count(self) -> Dim:
        """Return the number of classes: a number, a symbol, or None."""
        return 2 if self.classes is None else self.shape[self.classes]

    @property
    def class_count(self) -> int | None:
        """Return the number of classes, None if it is not a number."""
        return self.count if isinstance(self.count, int) else None

    def unit_axes(self) -> list[int]:
        """Return the axes of size 1 that are neither images nor classes."""
        return [axis for axis in range(len(self.shape)) if axis not in (self.batch, self.classes)]

    def select(self, graph: Graph, emitter: Emitter, choosing: Choosing) -> Selection:
        """Emit the choice of classes: given ones, or -1, -2, ... for the best, the second best, ...

        Raises:
            ClassError: the given classes do not fit the form or the number of classes, or objects are given.
        """
        if choosing.objects is not None:
            raise ClassError("A classifier has no objects to choose; give classes.")
        table = _table(graph, emitter, self)
        asked = _asked(emitter, self, choosing)
        chosen = asked.expand([shapes.dim_part(table, 0), 1], (table.shape[0], asked.shape[1]))
        if asked.const is None or (asked.const < 0).any():
            chosen = (chosen < 0).where(_ranked(_compared(emitter, self, table), chosen, asked.const), chosen)
        scores = table.gather_elements(chosen, 1)
        seed = _seed(self, chosen, table)
        inputs = () if choosing.class_input == "fixed" else (Choice(asked, np.array([[-1]], np.int64)),)
        if choosing.contrast:
            against, added = _against(emitter, choosing, chosen, table)
            weights = contrasted(against, table.range_of(1), table.dtype)
            scores = scores - (weights * table.unsqueeze([1])).sum([2], keepdims=False)
            seed = seed - _of_table(self, weights.transpose([1, 0, 2]))
            inputs = (*inputs, added)
        scores = scores.cast(np.float32)
        if isinstance(count := chosen.shape[1], str):
            emitter.define_symbol(count, chosen, 1)
        return Selection(
            scores=scores, seed=seed, outputs={contract.CLASSES: chosen, contract.SCORES: scores}, inputs=inputs
        )

    def table(self, values: NDArray[Any], images: int) -> NDArray[np.float64]:
        """Return the tensor's values in a run as scores, float64 `[N, C]`; a number s per image becomes -s and s."""
        rows = values.astype(np.float64).reshape(images, -1)
        return np.concatenate([-rows, rows], axis=1) if rows.shape[1] == 1 else rows


def _table(graph: Graph, emitter: Emitter, score: Score) -> Value:
    """Emit the score as `[N, C]`; one logit s per image becomes `[N, 2]`, -s and s."""
    s = forward_value(graph, emitter, score.name, "The score")
    s = s.squeeze(score.unit_axes())
    if score.form == "logit":
        s = s.unsqueeze([1])
        return emitter.concat([-s, s], 1)
    return s.unsqueeze([0]) if score.batch is None else s


def _compared(emitter: Emitter, score: Score, table: Value) -> Value:
    """Emit the table `[N, C]` that ranks the classes; a threshold is added so that class 1 is the top above it."""
    if not score.threshold:
        return table
    return table + emitter.constant(np.array([[2 * score.threshold, 0]], table.dtype))


def _asked(emitter: Emitter, score: Score, choosing: Choosing) -> Value:
    """Emit the classes that are asked for, int64 `[N or 1, K]`: an input of the model, or a constant if they are fixed.

    Raises:
        ClassError: the given classes do not fit the form or the number of classes, or none are given where they are
            fixed.
    """
    classes = choosing.classes
    if choosing.class_input != "fixed":
        if classes is not None:
            raise ClassError('Classes are fixed at surgery only with class_input="fixed"; otherwise feed them later.')
        return emitter.input(contract.CLASS_INPUT, np.int64, _ASKED_SHAPE)
    numbers = [] if classes is None else several("classes", classes, "integers", ClassError)
    if not numbers:
        raise ClassError('class_input="fixed" needs the classes to explain: classes=[281, 282].')
    for number in numbers:
        if not is_whole(number):
            raise ClassError(f"A class is an integer, not {short_repr(number)}.")
        if isinstance(score.count, int) and not -score.count <= number < score.count:
            raise ClassError(f"Class {number} does not exist: the model has the classes 0 to {score.count - 1}.")
    return emitter.constant(np.array([numbers], np.int64))


def _against(emitter: Emitter, choosing: Choosing, chosen: Value, table: Value) -> tuple[Value, Choice]:
    """Emit the classes that the chosen ones are contrasted with, int64 `[N, K]`, -1 for none, and their input.

    Raises:
        ClassError: the classes are fixed at surgery.
    """
    if choosing.class_input == "fixed":
        raise ClassError("A contrast is chosen when the model runs; leave out the contrast, or the fixed classes.")
    asked = contrast_input(emitter)
    parts: list[shapes.Part] = [shapes.dim_part(table, 0), shapes.dim_part(chosen, 1)]
    return asked.value.expand(parts, chosen.shape), asked


def _ranked(table: Value, asked: Value, known: np.ndarray | None) -> Value:
    """Emit for each asked class -r the r-th best class of each image, int64 `[N, K]`; other entries have no meaning.

    Args:
        table: the scores, `[N, C]`.
        asked: the classes, int64 `[N, K]`.
        known: the classes where they are fixed, int64 `[1, K]`.
    """
    emitter = table.emitter
    rank = (asked < 0).where(-1 - asked, 0)
    if known is None:
        # The maximum is taken in float32, which holds every rank, since OpenCV 5 crashes at a maximum of int64 numbers.
        depth = rank.cast(np.float32).max([0, 1]).cast(np.int64).squeeze([0]) + 1
    else:  # a constant and not a node, since TVM takes only a constant k of TopK
        depth = emitter.constant(np.array([-known.min()], np.int64))
    best = emitter.node(
        "TopK", [table, depth], [(table.dtype, (table.shape[0], None)), (np.int64, (table.shape[0], None))], axis=1
    )[1]
    return best.gather_elements(rank, 1)


def _seed(score: Score, chosen: Value, table: Value) -> Value:
    """Emit the gradient of the chosen scores with respect to the score's tensor, `[K, *shape]`."""
    lines = chosen.transpose([1, 0])
    return _of_table(score, lines.one_hot(table.range_of(1), table.dtype))


def _of_table(score: Score, one_hot: Value) -> Value:
    """Emit a gradient with respect to the table `[K, N, C]` as that with respect to the score's tensor."""
    if score.form == "classes" and score.batch is not None and not score.unit_axes():
        return one_hot
    if score.form == "logit":
        one_hot = one_hot.slice([1], [2], [2]) - one_hot.slice([0], [1], [2])
        one_hot = one_hot.squeeze([2])
    elif score.batch is None:
        one_hot = one_hot.squeeze([1])
    return one_hot.unsqueeze([axis + 1 for axis in score.unit_axes()])
