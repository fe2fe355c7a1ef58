"""Gradients along axes where they are constant, and along axes where an input was broadcast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery import shapes
from onnx_xcam.surgery.values import Value


def constant_axes(gradient: Value, y: Value) -> list[int]:
    """The axes of `y` along which a gradient `[K, *y.shape]` is constant and stored with size 1."""
    return [axis for axis in range(y.rank) if gradient.shape[axis + 1] == 1 and y.shape[axis] != 1]


def expanded(gradient: Value, y: Value, axes: Sequence[int] | None = None) -> Value:
    """The gradient with its constant axes (or those of them in `axes`) at their true size."""
    constant = constant_axes(gradient, y)
    if axes is not None:
        constant = [axis for axis in constant if axis in {a % y.rank for a in axes}]
    if not constant:
        return gradient
    parts = [1, *(shapes.dim_part(y, axis) if axis in constant else 1 for axis in range(y.rank))]
    shape = tuple(y.shape[axis - 1] if axis - 1 in constant else dim for axis, dim in enumerate(gradient.shape))
    return gradient.expand(parts, shape)


def unbroadcast(gradient: Value, x: Value, y: Value, exempt: int = 0) -> Value:
    """Sum a gradient over the axes along which `x` was broadcast to `y`.

    Args:
        gradient: `[K, *shape]`, aligned with `y` from the right.
        x: the input.
        y: the output; it lends the true size of axes along which the gradient is constant.
        exempt: trailing axes that are left alone (2 for MatMul).
    """
    summed: list[int] = []
    repeated: list[int] = []
    unsure = False
    lead = y.rank - x.rank
    for axis in range(y.rank - exempt):
        dim = x.shape[axis - lead] if axis >= lead else 1
        at = axis + 1
        if dim == 1 and y.shape[axis] != 1:
            (repeated if gradient.shape[at] == 1 else summed).append(at)
        elif not isinstance(dim, int) and not shapes.same(dim, y.shape[axis]) and gradient.shape[at] != 1:
            unsure = True
    if repeated:
        gradient = gradient * shapes.element_count(y, [at - 1 for at in repeated]).cast(gradient.dtype)
    gradient = gradient.sum(summed)
    if lead:
        gradient = gradient.squeeze(list(range(1, lead + 1)))
    return _sum_to(gradient, x) if unsure else gradient


def _sum_to(gradient: Value, x: Value) -> Value:
    """Sum over the axes where x has size 1 and the gradient has not, as only the run can tell."""
    emitter = gradient.emitter
    if emitter.opset < 13:
        raise UnsupportedOpError(
            f"Whether '{x.name}' is broadcast is known only at run time, which opset {emitter.opset} cannot express; "
            "convert the model to opset 13 or newer."
        )
    have = emitter.shape_of(gradient, 1, gradient.rank)
    want = emitter.shape_of(x.shape_source, 0, x.rank)
    differs = have.equal(want).logical_not()
    found = emitter.one("NonZero", [differs], np.int64, (1, None))
    axes = found.squeeze([0]) + emitter.constant(_one())
    shape = (gradient.shape[0], *x.shape)
    return emitter.one("ReduceSum", [gradient, axes], gradient.dtype, shape, keepdims=1, noop_with_empty_axes=1)


def _one() -> np.ndarray:
    return np.array(1, np.int64)
