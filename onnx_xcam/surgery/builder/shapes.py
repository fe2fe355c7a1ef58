"""This module builds shapes with dimensions that may be known at run time only.

`ir.dims` handles what is known of dimensions before a run. Where added nodes need a dimension, it is taken, in this
order, from 1. the number, if it is known, 2. a graph input that has the same symbol: that is free, while reading the
shape of an inner tensor would give the tensor
   a second consumer, and ONNX Runtime would no longer fuse its producer,
3. the tensor itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from onnx_xcam.errors import ShapeError

if TYPE_CHECKING:
    from onnx_xcam.surgery.builder.values import Value

Part: TypeAlias = "int | Value"
"""One dimension of a shape that is being built: a number, or an int64 `[1]` value."""

LARGEST_TABLE = 1 << 24
"""The largest number of elements that an index table or a mask may have; a rule that needs more fails."""


def dim_part(value: Value, axis: int) -> Part:
    """Return dimension `axis` of `value` as a part of a shape: a number if it is known, else an int64 `[1]` value."""
    dim = value.shape[axis]
    if isinstance(dim, int):
        return dim
    emitter = value.emitter
    source, source_axis = emitter.symbol_source(dim) or (value.shape_source, axis % value.rank)
    return emitter.shape_of(source, source_axis, source_axis + 1)


def dim_parts(value: Value, start: int = 0, stop: int | None = None) -> list[Part]:
    """Return dimensions `start` to `stop` of `value` as parts of a shape."""
    return [dim_part(value, axis) for axis in range(value.rank)[start:stop]]


def is_free(value: Value, axis: int) -> bool:
    """Tell whether a dimension is neither a number nor a symbol that can be read from a graph input."""
    dim = value.shape[axis]
    return not isinstance(dim, int) and value.emitter.symbol_source(dim) is None


def shape_value(value: Value, parts: Sequence[Part]) -> Value:
    """Return the parts as an int64 1-D value, a constant if all of them are numbers, in the emitter of `value`.

    Raises:
        ShapeError: a number is larger than int64 holds.
    """
    emitter = value.emitter
    largest = max((part for part in parts if isinstance(part, int)), default=0)
    if largest >= 1 << 63:
        raise ShapeError(f"A tensor would get {largest} elements along one axis, more than any memory holds.")
    pieces: list[list[int] | Value] = []
    for part in parts:
        if not isinstance(part, int):
            pieces.append(part)
        elif pieces and isinstance(pieces[-1], list):
            pieces[-1].append(part)
        else:
            pieces.append([part])
    values = [emitter.constant(np.array(p, np.int64)) if isinstance(p, list) else p for p in pieces]
    if not values:
        return emitter.constant(np.zeros(0, np.int64))
    return values[0] if len(values) == 1 else emitter.concat(values, 0)


def like_parts(gradient: Value, x: Value) -> list[Part]:
    """Return the shape `[K, *x.shape]` as parts, with one -1 where that saves reading a dimension at run time."""
    free = [axis for axis in range(x.rank) if is_free(x, axis)]
    if len(free) == 1:
        parts = [-1 if axis == free[0] else dim_part(x, axis) for axis in range(x.rank)]
        return [dim_part(gradient, 0), *parts]
    return [-1, *dim_parts(x)]


def element_count(value: Value, axes: Iterable[int]) -> Value:
    """Return the number of elements along `axes` of `value`, as a scalar of the value's own dtype."""
    parts = [dim_part(value, axis) for axis in axes]
    known = prod(part for part in parts if isinstance(part, int))
    emitter = value.emitter
    result = emitter.constant(np.array(known, value.dtype))
    for part in parts:
        if not isinstance(part, int):
            result = result * part.squeeze([0]).cast(value.dtype)
    return result


def add_parts(a: Part, b: Part) -> Part:
    """Return the sum of two parts of a shape."""
    if isinstance(a, int):
        return a + b if isinstance(b, int) or a else b
    return a + b


def table_size(*sizes: int) -> None:
    """Check that a table of these sizes is not too large to be made.

    Raises:
        ShapeError: the table would have more than `LARGEST_TABLE` elements.
    """
    total = 1
    for size in sizes:
        total *= size
        if total > LARGEST_TABLE:
            listed = " x ".join(str(size) for size in sizes)
            raise ShapeError(f"The backward pass would need a table of {listed} elements; choose a later layer.")
