"""This module holds the gradient rules of reductions.

A gradient keeps size 1 along the reduced axes: it is constant there, or broadcasts against the input.
"""

from __future__ import annotations

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp


def reduced_axes(node: NodeView) -> list[int]:
    """Return the axes that a reduction reduces, sorted and non-negative; an attribute or, at newer opsets, an input."""
    rank = node.x.rank
    axes = node.ints(1, "axes")
    if not axes:
        noop = bool(node.attr("noop_with_empty_axes", 0))
        return [] if noop else list(range(rank))
    return list(dims.normal_axes(axes, rank, node.describe()))


def with_kept_axes(node: NodeView, value: Value, axes: list[int], lead: int) -> Value:
    """Return a reduction's output (`lead` 0), or its gradient (`lead` 1), with the reduced axes kept at size 1."""
    if node.attr("keepdims", 1):
        return value
    return value.unsqueeze([axis + lead for axis in axes])


@vjp("ReduceSum", "ReduceMean", constant_axes=True)
def reduce_sum(node: NodeView, gy: Value) -> Gradients:
    """y = sum(x), or sum(x) / n;  gx = gy, or gy / n, constant along the reduced axes."""
    axes = reduced_axes(node)
    gx = with_kept_axes(node, gy, axes, 1)
    return gx / shapes.element_count(node.x, axes).cast(gx.dtype) if node.op == "ReduceMean" else gx


@vjp("ReduceMax", "ReduceMin", constant_axes=True)
def reduce_extremum(node: NodeView, gy: Value) -> Gradients:
    """y = max(x), or min(x);  gx = gy at the elements equal to y, in equal parts where several are, zeros elsewhere."""
    axes = reduced_axes(node)
    mask = node.x.equal(with_kept_axes(node, node.y, axes, 0)).cast(gy.dtype)
    return with_kept_axes(node, gy, axes, 1) * (mask / mask.sum(axes))


@vjp("ReduceL1", constant_axes=True)
def reduce_l1(node: NodeView, gy: Value) -> Gradients:
    """y = sum |x|;  gx = gy sign(x)."""
    return with_kept_axes(node, gy, reduced_axes(node), 1) * node.x.sign()


@vjp("ReduceL2", constant_axes=True)
def reduce_l2(node: NodeView, gy: Value) -> Gradients:
    """y = sqrt(sum x²);  gx = gy x / y, and 0 where y = 0."""
    axes = reduced_axes(node)
    y = with_kept_axes(node, node.y, axes, 0)
    divisor = (y > 0).where(y, 1)
    return with_kept_axes(node, gy, axes, 1) * (node.x / divisor)


@vjp("ReduceLogSum", constant_axes=True)
def reduce_log_sum(node: NodeView, gy: Value) -> Gradients:
    """y = log(sum x);  gx = gy / exp(y)."""
    axes = reduced_axes(node)
    return with_kept_axes(node, gy, axes, 1) / with_kept_axes(node, node.y, axes, 0).exp()


@vjp("ReduceLogSumExp", constant_axes=True)
def reduce_log_sum_exp(node: NodeView, gy: Value) -> Gradients:
    """y = log(sum exp(x));  gx = gy exp(x - y)."""
    axes = reduced_axes(node)
    return with_kept_axes(node, gy, axes, 1) * (node.x - with_kept_axes(node, node.y, axes, 0)).exp()


@vjp("ReduceSumSquare", constant_axes=True)
def reduce_sum_square(node: NodeView, gy: Value) -> Gradients:
    """y = sum x²;  gx = 2 gy x."""
    return with_kept_axes(node, gy, reduced_axes(node), 1) * (node.x * 2)


@vjp("ReduceProd", constant_axes=True)
def reduce_prod(node: NodeView, gy: Value) -> Gradients:
    """y = prod(x);  gx = gy times the product of the other elements, also where x has zeros."""
    axes = reduced_axes(node)
    zero = node.x.equal(0)
    nonzero = zero.where(1, node.x)
    zeros = zero.cast(gy.dtype)
    alone = (zeros.sum(axes) - zeros).equal(0)
    return with_kept_axes(node, gy, axes, 1) * alone.where(nonzero.prod(axes) / nonzero, 0)
