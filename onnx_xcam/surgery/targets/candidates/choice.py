"""This module emits the choice of objects among candidates: by their rank among those that are kept, or by number."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.values import Value


@dataclass(frozen=True)
class Objects:
    """An Objects holds the candidates that were chosen.

    Attributes:
        candidates: int64 `[N, K]`; 0 where there is no such object.
        exist: whether there is such an object, bool `[N, K]`.
    """

    candidates: Value
    exist: Value


def kept(asked: Value, ranks: Value, known: NDArray[np.int64] | None) -> Objects:
    """Emit the candidates that are asked for: -1, -2, ... is the best, the second best, ... of those that are kept.

    Args:
        asked: int64 `[N, K]`.
        ranks: the probability of each candidate that is kept, else -1, `[N, Q]`.
        known: what is asked for where it is fixed, int64 `[1, K]`.
    """
    emitter = ranks.emitter
    is_rank = asked < 0
    rank = is_rank.where(-1 - asked, 0)
    if known is None:
        # The maximum is taken in float32, which holds every rank, since OpenCV 5 crashes at a maximum of int64 numbers.
        # A candidate is asked for by 0 objects too, and TopK takes no more than there are.
        deepest = rank.cast(np.float32).max([0, 1]).maximum(0).cast(np.int64).squeeze([0]) + 1
        depth = _at_most(deepest, ranks)
    else:
        depth = _at_most(emitter.constant(np.array([max(1, -int(known.min()))], np.int64)), ranks)
    shape = (ranks.shape[0], None)
    best, places = emitter.node("TopK", [ranks, depth], [(ranks.dtype, shape), (np.dtype(np.int64), shape)], axis=1)
    last = depth - 1
    reached = rank.cast(np.float32).minimum(last.cast(np.float32)).cast(np.int64)
    is_kept = (best.gather_elements(reached, 1) > -0.5).logical_and((rank > last).logical_not())
    exist = is_rank.logical_not().logical_or(is_kept)
    candidates = is_rank.where(places.gather_elements(reached, 1), asked)
    return Objects(exist.where(candidates, 0), exist)


def _at_most(depth: Value, ranks: Value) -> Value:
    """Emit a number of candidates, int64 `[1]`, that is no larger than there are."""
    count = ranks.shape[1]
    if isinstance(count, int) and depth.const is not None:
        return depth.emitter.constant(np.minimum(depth.const, count))
    there = shapes.shape_value(ranks, [shapes.dim_part(ranks, 1)])
    return depth.cast(np.float32).minimum(there.cast(np.float32)).cast(np.int64)


def rows(table: Value, candidates: Value) -> Value:
    """Emit the rows of a table `[N, Q, C]` that belong to candidates `[N, K]`, as `[N, K, C]`."""
    parts: list[shapes.Part] = [1, 1, shapes.dim_part(table, 2)]
    index = candidates.unsqueeze([2]).expand(parts, (*candidates.shape, table.shape[2]))
    return table.gather_elements(index, 1)


def cells(of_candidates: Value, classes: Value) -> Value:
    """Emit the numbers of classes `[N, K]` in rows `[N, K, C]`, as `[N, K]`."""
    return of_candidates.gather_elements(classes.unsqueeze([2]), 2).squeeze([2])


def of_those_that_exist(objects: Objects, values: Value, otherwise: int) -> Value:
    """Emit values `[N, K]` of the objects, and another number where there is no such object."""
    return objects.exist.where(values, otherwise)
