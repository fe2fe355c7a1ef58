"""This module holds the gradient rules of normalisation layers, with the statistics that they use at inference."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.errors import ShapeError
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.broadcasting import unbroadcast
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp

_MOST_NEIGHBOURS = 4096


def per_channel(value: Value, rank: int) -> Value:
    """Return a vector `[C]` as `[C, 1, 1, ...]`, which broadcasts against a tensor `[N, C, ...]` of this rank."""
    return value.unsqueeze(list(range(1, rank - 1)))


@vjp("BatchNormalization", constant_axes=True)
def batch_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = scale (x - mean) / sqrt(var + eps) + bias;  gx = gy scale / sqrt(var + eps).

    With `training_mode`, mean and var are those of the batch itself, and gx is `normalized_gradient` of gy scale.
    """
    x, scale = node.x, per_channel(node.input(1), node.x.rank)
    epsilon: float = node.attr("epsilon", 1e-5)
    if node.attr("training_mode", 0):
        axes = [axis for axis in range(x.rank) if axis != 1]
        return normalized_gradient(x, node.full(gy) * scale, axes, epsilon)[0]
    variance = per_channel(node.input(4), x.rank).cast(gy.dtype)
    return gy * (scale.cast(gy.dtype) / (variance + epsilon).sqrt())


def normalized_gradient(x: Value, g: Value, axes: Sequence[int], epsilon: float) -> tuple[Value, Value]:
    """Return the gradient through x̂ = (x - mean(x)) / sqrt(var(x) + eps), and x̂ itself.

    gx = (g - mean(g) - x̂ mean(g x̂)) / sqrt(var + eps), means along `axes`.

    Args:
        x: the tensor to normalise.
        g: the gradient of x̂, `[K, *x.shape]`.
        axes: the axes of x that are normalised together.
        epsilon: the constant under the root.
    """
    shifted = [axis + 1 for axis in axes]
    centred = x - x.mean(axes)
    deviation = _root_mean_square(centred, axes, epsilon)
    xhat = centred / deviation
    return (g - g.mean(shifted) - xhat * (g * xhat).mean(shifted)) / deviation, xhat


def _root_mean_square(x: Value, axes: Sequence[int], epsilon: float) -> Value:
    """Return sqrt(mean(x²) + eps), and note that it is never zero where eps is positive."""
    result = ((x * x).mean(axes) + epsilon).sqrt()
    if epsilon > 0:
        x.emitter.set_never_zero(result)
    return result


@vjp("InstanceNormalization")
def instance_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = scale x̂ + bias, x̂ = x normalised over space;  gscale = sum(gy x̂), gbias = sum(gy).

    gx is `normalized_gradient` of gy scale.
    """
    x = node.x
    axes = list(range(2, x.rank))
    gx, xhat = normalized_gradient(x, gy * per_channel(node.input(1), x.rank), axes, node.attr("epsilon", 1e-5))
    others = [1, *(axis + 1 for axis in axes)]
    return gx, (gy * xhat).sum(others, keepdims=False), gy.sum(others, keepdims=False)


@vjp("MeanVarianceNormalization")
def mean_variance_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = (x - mean(x)) / (sqrt(var(x)) + 1e-9);  gx is `normalized_gradient` of gy.

    The rule adds 1e-18 under the root instead of 1e-9 behind it, which also keeps the divisor from being zero.
    """
    axes = [axis % node.x.rank for axis in node.attr("axes") or (0, 2, 3)]
    return normalized_gradient(node.x, gy, axes, 1e-18)[0]


@vjp("LayerNormalization")
def layer_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = scale x̂ + bias, x̂ = x normalised over the axes from `axis` on;  gscale = sum(gy x̂), gbias = sum(gy).

    gx is `normalized_gradient` of gy scale.
    """
    x = node.x
    axes = list(range(node.attr("axis", -1) % x.rank, x.rank))
    gx, xhat = normalized_gradient(x, gy * node.input(1), axes, node.attr("epsilon", 1e-5))
    gradients: list[Value | None] = [gx]
    for index, gradient in ((1, gy * xhat), (2, gy)):
        if node.has_input(index):
            gradients.append(unbroadcast(gradient, node.input(index), node.y))
    return gradients


@vjp("GroupNormalization")
def group_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = scale x̂ + bias, x̂ = x normalised over each group of channels and space.

    gx is `normalized_gradient` of gy scale;  gscale = sum(gy x̂), gbias = sum(gy).
    """
    if node.opset < 21:
        raise node.unsupported("its definition before opset 21 is deprecated")
    x, groups = node.x, node.attr("num_groups")
    lead = shapes.dim_part(x, 0)
    grouped = x.reshape([lead, groups, -1], (x.shape[0], groups, None))
    g = gy * per_channel(node.input(1), x.rank)
    g = g.reshape([shapes.dim_part(gy, 0), lead, groups, -1], (*gy.shape[:2], groups, None))
    gx, xhat = normalized_gradient(grouped, g, [2], node.attr("epsilon", 1e-5))
    others = [1, *range(3, gy.rank)]
    gscale = (gy * xhat.reshape(shapes.dim_parts(x), x.shape)).sum(others, keepdims=False)
    return gx.reshape_like(x), gscale, gy.sum(others, keepdims=False)


@vjp("RMSNormalization")
def rms_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = scale x̂ with x̂ = x / r, r = sqrt(mean(x²) + eps), means over the axes from `axis` on.

    gx = (g - x̂ mean(g x̂)) / r with g = gy scale;  gscale = sum(gy x̂).
    """
    x, scale = node.inputs
    axes = list(range(node.attr("axis", -1) % x.rank, x.rank))
    r = _root_mean_square(x, axes, node.attr("epsilon", 1e-5))
    g, xhat = gy * scale, x / r
    gx = (g - xhat * (g * xhat).mean([axis + 1 for axis in axes])) / r
    return gx, unbroadcast(gy * xhat, scale, node.y)


@vjp("LpNormalization")
def lp_normalization(node: NodeView, gy: Value) -> Gradients:
    """y = x / n with n = sum |x| (p = 1), or n = sqrt(sum x²) (p = 2), along an axis.

    gx = (gy - s sum(gy y)) / n with s = sign(x) for p = 1 and s = y for p = 2;  gx = 0 where n = 0.
    """
    x, y, axis = node.x, node.y, node.attr("axis", -1) % node.x.rank
    absolute = node.attr("p", 2) == 1
    n = x.abs().sum([axis]) if absolute else (x * x).sum([axis]).sqrt()
    gx = gy - (x.sign() if absolute else y) * (gy * y).sum([axis + 1])
    return (gx / n).masked(n > 0)


@vjp("LRN")
def lrn(node: NodeView, gy: Value) -> Gradients:
    """y = x D^-beta with D = bias + alpha/size S(x²), where S sums over a window of `size` channels.

    gx = gy D^-beta - 2 alpha beta / size x Sᵀ(gy x D^(-beta-1)).
    """
    x = node.x
    size: int = node.attr("size")
    alpha: float = node.attr("alpha", 1e-4)
    beta: float = node.attr("beta", 0.75)
    bias: float = node.attr("bias", 1.0)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    d = channel_window_sum(x * x, before, after) * (alpha / size) + bias
    inner = gy * x * d ** (-beta - 1)
    summed = channel_window_sum(inner.folded(), after, before).unfolded(inner)
    return gy * d**-beta - x * summed * (2 * alpha * beta / size)


def channel_window_sum(x: Value, before: int, after: int) -> Value:
    """Return for each channel the sum of the channels from `before` ahead of it to `after` behind it, `[N,C,...]`.

    Raises:
        ShapeError: the window is too wide to be written out.
    """
    if before + after > _MOST_NEIGHBOURS:
        raise ShapeError(f"A normalisation over {before + after + 1} neighbouring channels is not supported.")
    padded = x.pad([before], [after], [1])
    channels = shapes.dim_part(x, 1)
    total = None
    for offset in range(before + after + 1):
        stop = shapes.add_parts(channels, offset)
        part = padded.slice([offset], [stop], [1]).with_shape(x.shape)
        total = part if total is None else total + part
    assert total is not None
    return total
