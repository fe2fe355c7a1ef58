"""Which classes of the score are explained: given ones, or the model's own best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_xcam.common.arguments import is_whole, several, shown
from onnx_xcam.contract import CLASS_INPUT, ClassInput
from onnx_xcam.errors import ClassError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.classification import Score


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
        chosen = (chosen < 0).where(_ranked(_compared(emitter, score, table), chosen, asked.const), chosen)
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


def _compared(emitter: Emitter, score: Score, table: Value) -> Value:
    """The table `[N, C]` by which the model's own top class is told: of one number, class 1 is it above a threshold."""
    if not score.threshold:
        return table
    return table + emitter.constant(np.array([[2 * score.threshold, 0]], table.dtype))


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
    one_hot = lines.one_hot(table.range_of(1), table.dtype)
    if score.form == "classes" and score.batch is not None and not score.unit_axes():
        return one_hot
    if score.form == "logit":
        one_hot = one_hot.slice([1], [2], [2]) - one_hot.slice([0], [1], [2])
        one_hot = one_hot.squeeze([2])
    elif score.batch is None:
        one_hot = one_hot.squeeze([1])
    return one_hot.unsqueeze([axis + 1 for axis in score.unit_axes()])
