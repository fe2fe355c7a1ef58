"""This module holds the gradient rules of operators that read or write the elements that an index tensor names."""

from __future__ import annotations

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp
from onnx_xcam.surgery.rules.scatter import add_at, add_elements, class_first, class_last, per_class, wrapped


@vjp("GatherElements")
def gather_elements(node: NodeView, gy: Value) -> Gradients:
    """y[.., i, ..] = x[.., indices[.., i, ..], ..];  gx = zeros with gy added at the positions that were read."""
    return add_elements(gy, node.input(1), node.x, node.attr("axis", 0) % node.x.rank)


@vjp("GatherND")
def gather_nd(node: NodeView, gy: Value) -> Gradients:
    """y[b, i] = x[b, indices[b, i]], where indices[b, i] is a vector of coordinates.

    gx = zeros with gy added at the positions that were read. For that, the indexed axes are flattened to one, and so
    are all axes of the indices but the last.
    """
    x, indices = node.x, node.input(1)
    depth, batch = indices.shape[-1], node.attr("batch_dims", 0)
    if not isinstance(depth, int):
        raise node.unsupported("the length of its indices is known only at run time")
    places = _flat_places(x, indices.cast(np.int64), batch, depth)
    indexed = batch + depth
    rest, tail = shapes.dim_parts(x, indexed), x.shape[indexed:]
    count: shapes.Part = places.shape[0] if isinstance(places.shape[0], int) else -1
    rows = gy.reshape([shapes.dim_part(gy, 0), count, *rest], (gy.shape[0], places.shape[0], *tail))
    flat = x.reshape([-1, *rest], (dims.known_size(x.shape[:indexed]), *tail))
    return add_at(rows, 1, places, flat, 0).reshape_like(x)


def _flat_places(x: Value, indices: Value, batch: int, depth: int) -> Value:
    """Return for each row of `indices` its position in the flattened leading `batch + depth` axes of x, int64 1-D."""
    place = indices.emitter.constant(np.zeros((1,) * (indices.rank - 1), np.int64))
    for axis in range(batch + depth):
        if axis < batch:
            coordinate = x.range_of(axis).unsqueeze([a for a in range(indices.rank - 1) if a != axis])
        else:
            column = indices.slice([axis - batch], [axis - batch + 1], [indices.rank - 1])
            coordinate = wrapped(column.squeeze([-1]), x, axis)
        place = place * shapes.dim_part(x, axis) + coordinate
    return place.reshape([-1], (dims.known_size(indices.shape[:-1]),))


@vjp("ScatterElements")
def scatter_elements(node: NodeView, gy: Value) -> Gradients:
    """y = x with updates written, or added, at the indices along an axis.

    gupdates = gy at the indices;  gx = gy, with zeros at the indices if the updates were written, not added.
    """
    adds = _adds(node)
    axis = node.attr("axis", 0) % node.x.rank + 1
    places = per_class(node.input(1), gy)
    erased = gy if adds else gy.scatter_elements(places, gy.zeros(shapes.dim_parts(places)), axis)
    return erased, None, gy.gather_elements(places, axis)


@vjp("ScatterND")
def scatter_nd(node: NodeView, gy: Value) -> Gradients:
    """y = x with updates written, or added, at the positions that the rows of `indices` name.

    gupdates = gy at these positions;  gx = gy, with zeros there if the updates were written, not added.
    The class axis of gy is moved to the end, so that the indices address gy as they address x.
    """
    adds = _adds(node)
    indices, g = node.input(1), class_last(gy)
    shape = (*node.input(2).shape, gy.shape[0])
    taken = node.emitter.one("GatherND", [g, indices], g.dtype, shape)
    erased = g if adds else node.emitter.one("ScatterND", [g, indices, taken * 0], g.dtype, g.shape)
    return gy if adds else class_first(erased), None, class_first(taken)


def _adds(node: NodeView) -> bool:
    """Tell whether a scatter adds its updates (True) or writes them.

    Raises:
        UnsupportedOpError: the scatter reduces in another way, such as by a product.
    """
    reduction = node.attr("reduction", "none")
    if reduction not in ("none", "add"):
        raise node.unsupported(f"its reduction '{reduction}' has no gradient rule")
    return bool(reduction == "add")


@vjp("TopK")
def top_k(node: NodeView, gy: Value) -> Gradients:
    """y = the largest, or smallest, elements along an axis;  gx = zeros with gy at the positions of these."""
    x = node.x
    zeros = gy.zeros([shapes.dim_part(gy, 0), *shapes.dim_parts(x)]).with_shape((gy.shape[0], *x.shape))
    return zeros.scatter_elements(per_class(node.output(1), gy), gy, node.attr("axis", -1) % x.rank + 1)


@vjp("Compress")
def compress(node: NodeView, gy: Value) -> Gradients:
    """y = the elements of x, or slices along an axis, where a condition holds;  gx = gy there, zeros elsewhere."""
    x, axis = node.x, node.attr("axis")
    chosen = node.emitter.one("NonZero", [node.input(1)], np.int64, (1, node.y.shape[axis or 0])).squeeze([0])
    if axis is not None:
        return add_at(gy, axis % x.rank + 1, chosen, x, axis % x.rank, distinct=True)
    flat = x.reshape([-1], (dims.known_size(x.shape),))
    return add_at(gy, 1, chosen, flat, 0, distinct=True).reshape_like(x)


@vjp("OneHot")
def one_hot(node: NodeView, gy: Value) -> Gradients:
    """y = values[1] where a position is its index, values[0] elsewhere.

    gvalues = [sum of gy over the other positions, sum of gy over the indices].
    """
    zero_one = node.constant([0, 1], gy.dtype)
    inputs = [node.input(0), node.input(1), zero_one]
    met = node.emitter.one("OneHot", inputs, gy.dtype, node.y.shape, axis=node.attr("axis", -1))
    axes = list(range(1, gy.rank))
    sums = [(gy * mask).sum(axes, keepdims=False).unsqueeze([1]) for mask in (1 - met, met)]
    return None, None, node.emitter.concat(sums, 1)


@vjp("Trilu")
def trilu(node: NodeView, gy: Value) -> Gradients:
    """y = the upper or lower triangle of each matrix, zeros elsewhere;  gx = the same triangle of gy."""
    inputs = [gy, node.input(1)] if node.has_input(1) else [gy]
    return node.emitter.one("Trilu", inputs, gy.dtype, gy.shape, upper=node.attr("upper", 1))


@vjp("ReverseSequence")
def reverse_sequence(node: NodeView, gy: Value) -> Gradients:
    """y = x with the beginning of each sequence reversed, which is its own inverse;  gx = gy reversed alike.

    The class axis of gy is moved to the end, so that `batch_axis` and `time_axis` keep their numbers.
    """
    axes = {"batch_axis": node.attr("batch_axis", 1), "time_axis": node.attr("time_axis", 0)}
    g = class_last(gy)
    return class_first(node.emitter.one("ReverseSequence", [g, node.input(1)], g.dtype, g.shape, **axes))


@vjp("MaxUnpool")
def max_unpool(node: NodeView, gy: Value) -> Gradients:
    """y = zeros with x written at indices into the flattened output;  gx = gy at these indices."""
    if node.has_input(2):
        raise node.unsupported("it has an output_shape, which engines read differently")
    flat = gy.reshape([0, -1], (gy.shape[0], dims.known_size(gy.shape[1:])))
    return flat.gather(node.input(1), 1)
