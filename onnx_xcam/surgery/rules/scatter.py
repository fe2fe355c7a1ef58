"""Putting gradients back to the places that elements were taken from, along one axis."""

from __future__ import annotations

import numpy as np

from onnx_xcam.surgery import shapes
from onnx_xcam.surgery.values import Value


def add_at(g: Value, at: int, places: Value, x: Value, axis: int, *, distinct: bool = False) -> Value:
    """Zeros as long as `x` along its `axis`, with `g` added at `places`.

    Args:
        g: gradient whose axis `at` runs over the places.
        at: that axis.
        places: int64 1-D, non-negative.
        x: lends the size of the result along `at`.
        axis: the axis of x that it lends.
        distinct: no place occurs twice.
    """
    shape = (*g.shape[:at], x.shape[axis], *g.shape[at + 1 :])
    size = x.shape[axis]
    if places.const is not None and isinstance(size, int):
        return _add_at_known(g, at, places.const, size, shape)
    if distinct:
        return _pick_inverse(g, at, _inverse(x, axis, places), shape)
    one_hot = places.unsqueeze([1]).equal(x.range_of(axis)).cast(g.dtype)
    return contract(g, at, one_hot, shape)


def _add_at_known(g: Value, at: int, places: np.ndarray, size: int, shape: shapes.Shape) -> Value:
    count = len(places)
    if count and abs(places - np.arange(places[0], places[0] + count)).max(initial=0) == 0:
        return g.pad([int(places[0])], [size - int(places[0]) - count], [at]).with_shape(shape)
    if len(np.unique(places)) == count:
        inverse = np.full(size, count, np.int64)
        inverse[places] = np.arange(count)
        return _pick_inverse(g, at, g.emitter.constant(inverse), shape)
    one_hot = (places[:, None] == np.arange(size)).astype(g.dtype)
    return contract(g, at, g.emitter.constant(one_hot), shape)


def _inverse(x: Value, axis: int, places: Value) -> Value:
    """For each position along x's axis, which of the places it is; behind the last one where it is none."""
    ranks = places.range_of(0)
    count = shapes.dim_part(places, 0)
    behind = places.zeros([shapes.dim_part(x, axis)]) + count
    return behind.scatter_elements(places, ranks, 0).with_shape((x.shape[axis],))


def _pick_inverse(g: Value, at: int, inverse: Value, shape: shapes.Shape) -> Value:
    """Gather from g with one slice of zeros appended, which the positions without a gradient point to."""
    return g.pad([0], [1], [at]).gather(inverse, at).with_shape(shape)


def contract(g: Value, at: int, matrix: Value, shape: shapes.Shape) -> Value:
    """Multiply a matrix to axis `at`: `result[..., j, ...] = sum_i g[..., i, ...] matrix[i, j]`."""
    axes = list(range(g.rank))
    if at == g.rank - 2:
        return (matrix.swap_last() @ g).with_shape(shape)
    last = [*axes[:at], *axes[at + 1 :], at]
    result = g.transpose(last) @ matrix
    return result.transpose([int(a) for a in np.argsort(last)]).with_shape(shape)
