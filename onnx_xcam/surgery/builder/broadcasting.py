"""This module handles gradients along axes where they are constant, and along axes where an input was broadcast."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.errors import ShapeError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.ir.dims import Dim


def constant_axes(gradient: Value, y: Value) -> list[int]:
    """Return the axes of `y` along which a gradient `[K, *y.shape]` is constant and stored with size 1."""
    return [axis for axis in range(y.rank) if gradient.shape[axis + 1] == 1 and y.shape[axis] != 1]


def expanded(gradient: Value, y: Value, axes: Sequence[int] | None = None) -> Value:
    """Return the gradient with its constant axes (or those of them in `axes`) expanded to their true size."""
    constant = constant_axes(gradient, y)
    if axes is not None:
        constant = [axis for axis in constant if axis in {a % y.rank for a in axes}]
    if not constant:
        return gradient
    parts = [1, *(shapes.dim_part(y, axis) if axis in constant else 1 for axis in range(y.rank))]
    shape = tuple(y.shape[axis - 1] if axis - 1 in constant else dim for axis, dim in enumerate(gradient.shape))
    return gradient.expand(parts, shape)


def expanded_where_unsure(gradient: Value, inputs: Sequence[Value], y: Value) -> Value:
    """Return the gradient expanded along the axes where only a run can tell whether an input is broadcast.

    If it kept size 1 there, the size of a product of gradient and input would be unknown before the run.
    """
    axes = {
        axis
        for x in inputs
        for axis, dim in enumerate(x.shape, y.rank - x.rank)
        if not isinstance(dim, int) and not dims.same(dim, y.shape[axis])
    }
    return expanded(gradient, y, sorted(axes))


def unbroadcast(gradient: Value, x: Value, y: Value, exempt: int = 0) -> Value:
    """Sum a gradient over the axes along which `x` was broadcast to `y`.

    Args:
        gradient: `[K, *shape]`, aligned with `y` from the right.
        x: the input.
        y: the output; it gives the true size of axes along which the gradient is constant.
        exempt: the number of trailing axes that are not summed (2 for MatMul).

    Returns:
        The gradient of x, `[K, *x.shape]`, with size 1 along axes where it is constant.

    Raises:
        ShapeError: `x` has more dimensions than `y`.
    """
    summed: list[int] = []
    repeated: list[int] = []
    unsure: list[int] = []
    lead = y.rank - x.rank
    if lead < 0:
        raise ShapeError(f"'{y.name}' has fewer dimensions than '{x.name}', which it is made of; the file is damaged.")
    for axis in range(y.rank - exempt):
        dim = x.shape[axis - lead] if axis >= lead else 1
        at = axis + 1
        if dim == 1 and y.shape[axis] != 1:
            (repeated if gradient.shape[at] == 1 else summed).append(at)
        elif not isinstance(dim, int) and not dims.same(dim, y.shape[axis]) and gradient.shape[at] != 1:
            unsure.append(at - lead)
    if repeated:
        gradient = gradient * shapes.element_count(y, [at - 1 for at in repeated]).cast(gradient.dtype)
    gradient = gradient.sum(summed)
    if lead:
        gradient = gradient.squeeze(list(range(1, lead + 1)))
    return _sum_to(gradient, x, unsure) if unsure else gradient


def _sum_to(gradient: Value, x: Value, axes: Sequence[int]) -> Value:
    """Sum the gradient over those of `axes` where, at run time, x has size 1 and the gradient has not.

    An axis of size n is split into `[n / size, size]` with the size that it has in x, and the first part is summed:
    the whole axis where x has size 1, and an axis of size 1 where the sizes are equal.
    """
    parts: list[shapes.Part] = []
    split: list[Dim] = []
    for axis in range(gradient.rank):
        size = shapes.dim_part(gradient, axis)
        if axis in axes:
            want = shapes.dim_part(x, axis - 1)
            assert isinstance(want, Value)
            parts += [size / want, want]
            split += [None, x.shape[axis - 1]]
        else:
            parts.append(size)
            split.append(gradient.shape[axis])
    inner = [axis + position for position, axis in enumerate(sorted(axes))]
    return gradient.reshape(parts, tuple(split)).sum(inner, keepdims=False)
