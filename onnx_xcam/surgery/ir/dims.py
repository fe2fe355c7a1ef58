"""This module holds dimensions and static shapes: what is known of them without any value, and how they broadcast.

A static shape is a tuple of `Dim`: an int, a symbol (two dimensions with the same symbol are equal), or None for
"unknown". The module `builder.shapes` has the dimensions that are only known at run time.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import TypeAlias

from onnx_xcam.errors import ShapeError

Dim: TypeAlias = int | str | None
"""A dimension: a number, a symbol, or None if it is unknown."""
Shape: TypeAlias = tuple[Dim, ...]
"""A static shape, for a tensor of known rank."""


def differ(a: Dim, b: Dim) -> bool:
    """Tell whether two dimensions are known to be different numbers."""
    return isinstance(a, int) and isinstance(b, int) and a != b


def same(a: Dim, b: Dim) -> bool:
    """Tell whether two dimensions are known to be equal."""
    return a is not None and a == b


def broadcast_dim(a: Dim, b: Dim) -> Dim:
    """Return the dimension that `a` and `b` broadcast to, None if it is not known."""
    if a == 1:
        return b
    if b == 1 or same(a, b):
        return a
    numbers = [d for d in (a, b) if isinstance(d, int)]
    return numbers[0] if numbers else None


def broadcast(*shapes: Shape) -> Shape:
    """Return the shape that `shapes` broadcast to by ONNX's multidirectional rule."""
    rank = max(len(shape) for shape in shapes)
    result: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, dim in enumerate(shape, rank - len(shape)):
            result[axis] = broadcast_dim(result[axis], dim)
    return tuple(result)


def known_size(dims: Iterable[Dim]) -> int | None:
    """Return the product of the dimensions, None if one is not a number."""
    numbers = list(dims)
    return prod(numbers) if all(isinstance(d, int) for d in numbers) else None  # type: ignore[arg-type]


def normal_axes(axes: Iterable[int], rank: int, what: str) -> tuple[int, ...]:
    """Return axes as sorted non-negative numbers.

    Raises:
        ShapeError: an axis lies outside the rank.
    """
    result = []
    for axis in axes:
        if not -rank <= axis < rank:
            raise ShapeError(f"{what}: axis {axis} does not exist in a tensor with {rank} dimensions.")
        result.append(axis % rank)
    return tuple(sorted(set(result)))
