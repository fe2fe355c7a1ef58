"""This module adds gradients at the positions that elements were read from, along one axis."""

from __future__ import annotations

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir import dims


def add_at(g: Value, at: int, places: Value, x: Value, axis: int, *, distinct: bool = False) -> Value:
    """Return zeros, as long as `x` is along `axis`, with `g` added at `places` along its axis `at`.

    Args:
        g: a gradient with one slice per place along axis `at`.
        at: the axis of g and of the result.
        places: int64 1-D, non-negative.
        x: the tensor that gives the size of the result along `at`.
        axis: the axis of x with that size.
        distinct: whether every place is known to occur once at most.
    """
    shape = (*g.shape[:at], x.shape[axis], *g.shape[at + 1 :])
    size = x.shape[axis]
    if places.const is not None and isinstance(size, int):
        return _add_at_known(g, at, places.const, size, shape)
    if distinct:
        return _pick_inverse(g, at, _inverse(x, axis, places), shape)
    if g.emitter.opset >= 16:
        return _add_slices(g, at, places, x, axis).with_shape(shape)
    one_hot = places.unsqueeze([1]).equal(x.range_of(axis)).cast(g.dtype)
    return contract(g, at, one_hot, shape)


def _add_slices(g: Value, at: int, places: Value, x: Value, axis: int) -> Value:
    """Return the result of `add_at` by ScatterElements, with every place repeated along the other axes."""
    sizes = shapes.dim_parts(g)
    column = places.unsqueeze([a for a in range(g.rank) if a != at])
    indices = column.expand([1 if a == at else size for a, size in enumerate(sizes)], g.shape)
    zeros = g.zeros([*sizes[:at], shapes.dim_part(x, axis), *sizes[at + 1 :]])
    return zeros.scatter_elements(indices, g, at, add=True)


def _add_at_known(g: Value, at: int, places: np.ndarray, size: int, shape: dims.Shape) -> Value:
    """Return the result of `add_at` for known places: by Pad, by a Gather, or by a product with a one-hot matrix."""
    count = len(places)
    shapes.table_size(size)
    if count and abs(places - np.arange(places[0], places[0] + count)).max(initial=0) == 0:
        return g.pad([int(places[0])], [size - int(places[0]) - count], [at]).with_shape(shape)
    if len(np.unique(places)) == count:
        inverse = np.full(size, count, np.int64)
        inverse[places] = np.arange(count)
        return _pick_inverse(g, at, g.emitter.constant(inverse), shape)
    shapes.table_size(count, size)
    one_hot = (places[:, None] == np.arange(size)).astype(g.dtype)
    return contract(g, at, g.emitter.constant(one_hot), shape)


def _inverse(x: Value, axis: int, places: Value) -> Value:
    """Return for each position along x's axis its index in `places`, and their number where it is not among them."""
    ranks = places.range_of(0)
    count = shapes.dim_part(places, 0)
    behind = places.zeros([shapes.dim_part(x, axis)]) + count
    return behind.scatter_elements(places, ranks, 0).with_shape((x.shape[axis],))


def _pick_inverse(g: Value, at: int, inverse: Value, shape: dims.Shape) -> Value:
    """Gather from g by `inverse`; a slice of zeros is appended to g for the positions without a gradient."""
    return g.pad([0], [1], [at]).gather(inverse, at).with_shape(shape)


def contract(g: Value, at: int, matrix: Value, shape: dims.Shape) -> Value:
    """Multiply axis `at` by a matrix: `result[..., j, ...] = sum_i g[..., i, ...] matrix[i, j]`."""
    axes = list(range(g.rank))
    if at == g.rank - 2:
        return (matrix.swap_last() @ g).with_shape(shape)
    last = [*axes[:at], *axes[at + 1 :], at]
    result = g.transpose(last) @ matrix
    return result.transpose([int(a) for a in np.argsort(last)]).with_shape(shape)


def add_elements(g: Value, indices: Value, x: Value, axis: int) -> Value:
    """Return zeros `[K, *x.shape]` with the elements of g added at the indices along an axis.

    This is the gradient of `GatherElements(x, indices)`.

    Args:
        g: gradient, `[K, *indices.shape]`.
        indices: integers; along the other axes, `indices` may be shorter than x.
        x: the tensor that gives the shape of the result.
        axis: the axis of x that is indexed.
    """
    shape = (g.shape[0], *x.shape)
    if g.emitter.opset >= 16:
        zeros = g.zeros([shapes.dim_part(g, 0), *shapes.dim_parts(x)]).with_shape(shape)
        return zeros.scatter_elements(per_class(indices, g), g, axis + 1, add=True)
    last = [*(a for a in range(x.rank) if a != axis), axis]
    places = wrapped(indices.cast(np.int64), x, axis).transpose(last).unsqueeze([x.rank])
    one_hot = places.equal(x.range_of(axis)).cast(g.dtype)
    rows = g.transpose([0, *(a + 1 for a in last)]).unsqueeze([x.rank])
    result = (rows @ one_hot).squeeze([x.rank]).transpose([0, *(int(a) + 1 for a in np.argsort(last))])
    smaller = [a for a in last[:-1] if not dims.same(indices.shape[a], x.shape[a])]
    behind = [shapes.add_parts(shapes.dim_part(x, a), -shapes.dim_part(indices, a)) for a in smaller]
    return result.pad([0] * len(smaller), behind, [a + 1 for a in smaller]).with_shape(shape)


def per_class(indices: Value, g: Value) -> Value:
    """Return the indices repeated for every class of the gradient, `[K, *indices.shape]`."""
    parts = [shapes.dim_part(g, 0), *[1] * indices.rank]
    return indices.unsqueeze([0]).expand(parts, (g.shape[0], *indices.shape))


def wrapped(indices: Value, x: Value, axis: int) -> Value:
    """Return int64 indices into an axis of x made non-negative: negative ones count from its end."""
    return (indices < 0).where(indices + shapes.dim_part(x, axis), indices)


def class_last(g: Value) -> Value:
    """Return a gradient `[K, *shape]` with its class axis at the end, `[*shape, K]`."""
    return g.transpose([*range(1, g.rank), 0])


def class_first(g: Value) -> Value:
    """Return a gradient `[*shape, K]` with its class axis in front, `[K, *shape]`."""
    return g.transpose([g.rank - 1, *range(g.rank - 1)])
