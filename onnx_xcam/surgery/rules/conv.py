"""This module holds the gradient rules of convolutions, of any number of dimensions and with every form of padding."""

from __future__ import annotations

from math import prod

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.rules.node import NodeView
from onnx_xcam.surgery.rules.registry import Gradients, Value, vjp
from onnx_xcam.surgery.rules.windows import Windows, scatter_windows, windows_of


def kernel_shape(node: NodeView, weight: Value) -> list[int]:
    """Return the kernel's spatial sizes, from the attribute or from the weight `[M, C / group, *kernel]`.

    Raises:
        UnsupportedOpError: a size is known only at run time.
    """
    sizes = node.attr("kernel_shape") or weight.shape[2:]
    if not all(isinstance(size, int) for size in sizes):
        raise node.unsupported("its kernel's size is known only at run time")
    return [size for size in sizes if isinstance(size, int)]


@vjp("Conv", constant_axes=True)
def conv(node: NodeView, gy: Value) -> Gradients:
    """y = x * W + b;  gx = gy *ᵀ W, gW[m,c,j] = sum gy[n,m,o] x[n,c,o s + j d - p], gb = sum(gy).

    s, d and p are strides, dilations and padding;  *ᵀ is the transposed convolution.
    """
    weight = node.weight(1, (0, 1), node.attr("group", 1))
    windows = windows_of(node, kernel_shape(node, weight))
    spatial = list(range(2, node.x.rank))
    pointwise = _is_pointwise(windows)
    gy = node.full(gy, [1] if pointwise and not node.needs(1) and not node.needs(2) else [1, *spatial])
    gx = _input_gradient(node, gy, weight, windows) if node.needs(0) else None
    gw = _weight_gradient(node, node.full(gy), weight, windows) if node.needs(1) else None
    gb = node.full(gy).sum([1, *(axis + 1 for axis in spatial)], keepdims=False) if node.needs(2) else None
    return gx, gw, gb


def _is_pointwise(windows: Windows) -> bool:
    """Tell whether every output position reads only the input position of the same index."""
    ones, zeros = [1] * len(windows.kernel), [0] * len(windows.kernel)
    return windows.kernel == windows.strides == ones and windows.begin == windows.end == zeros


def _input_gradient(node: NodeView, gy: Value, weight: Value, windows: Windows) -> Value:
    """Return the gradient of x, with the class axis folded into the batch for the convolution itself."""
    x = node.x
    if _is_pointwise(windows):  # gy may be constant in space and keep size 1 there: so does gx then
        x = x.with_shape((*x.shape[:2], *gy.shape[3:]))
    return scatter_windows(gy.folded(), weight, windows, node.attr("group", 1), x).unfolded(gy)


def _weight_gradient(node: NodeView, gy: Value, weight: Value, windows: Windows) -> Value:
    """Return the weight's gradient: x convolved with gy, batch exchanged with channels and strides with dilations."""
    x, group = node.x, node.attr("group", 1)
    m, c = weight.shape[:2]
    if not isinstance(m, int) or not isinstance(c, int) or not all(isinstance(b, int) for b in windows.begin):
        raise node.unsupported("the gradient of its weight needs static channels and padding")
    axes = list(range(len(windows.kernel)))
    inner, outer = shapes.dim_parts(x, 2), shapes.dim_parts(gy, 3)
    split = x.reshape([-1, group, c, *inner], (x.shape[0], group, c, *x.shape[2:]))
    image = split.transpose([2, 1, 0, *(a + 3 for a in axes)])
    image = image.reshape([c, -1, *inner], (c, None, *x.shape[2:]))
    lead = [shapes.dim_part(gy, 0), shapes.dim_part(gy, 1)]
    parts = gy.reshape([*lead, group, m // group, *outer], (*gy.shape[:2], group, m // group, *gy.shape[3:]))
    filters = parts.transpose([2, 0, 3, 1, *(a + 4 for a in axes)])
    filters = filters.reshape([-1, lead[1], *outer], (None, gy.shape[1], *gy.shape[3:]))
    end = (node.attr("pads") or [0] * 2 * len(axes))[len(axes) :]
    end = [max(e, extent) for e, extent in zip(end, windows.extent, strict=True)]
    result = x.emitter.one(
        "Conv", [image, filters], gy.dtype, (c, None, *[None] * len(axes)), group=group,
        strides=list(windows.dilations), dilations=list(windows.strides), pads=[*windows.begin, *end],
    )  # fmt: skip
    result = result.slice([0] * len(axes), list(windows.kernel), [a + 2 for a in axes])
    result = result.reshape(
        [c, group, lead[0], m // group, *windows.kernel], (c, group, gy.shape[0], m // group, *windows.kernel)
    )
    result = result.transpose([2, 1, 3, 0, *(a + 4 for a in axes)])
    return result.reshape([lead[0], m, c, *windows.kernel], (gy.shape[0], m, c, *windows.kernel))


@vjp("ConvTranspose")
def conv_transpose(node: NodeView, gy: Value) -> Gradients:
    """y = x *ᵀ W + b;  gx = gy * W, a convolution with the same strides, dilations and padding."""
    x, weight = node.x, node.input(1)
    kernel = kernel_shape(node, weight)
    rank = len(kernel)
    strides, dilations = node.attr("strides") or [1] * rank, node.attr("dilations") or [1] * rank
    begin = _transposed_begin(node, kernel, strides, dilations)
    reach = [(k - 1) * d for k, d in zip(kernel, dilations, strict=True)]
    result = x.emitter.one(
        "Conv", [gy.folded(), weight], gy.dtype, (None, x.shape[1], *[None] * rank), group=node.attr("group", 1),
        kernel_shape=kernel, strides=list(strides), dilations=list(dilations),
        pads=[*begin, *reach],
    )  # fmt: skip
    result = result.slice([0] * rank, shapes.dim_parts(x, 2), list(range(2, rank + 2)))
    return result.with_shape((None, *x.shape[1:])).unfolded(gy)


def _transposed_begin(node: NodeView, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Return how many positions a ConvTranspose crops before its result, from pads, auto_pad or output_shape."""
    rank = len(kernel)
    auto = node.attr("auto_pad", "NOTSET")
    if auto == "VALID":
        return [0] * rank
    if auto == "NOTSET" and not node.attr("output_shape"):
        return list((node.attr("pads") or [0] * 2 * rank)[:rank])
    extra = node.attr("output_padding") or [0] * rank
    begin = []
    for axis in range(rank):
        size, out = node.x.shape[axis + 2], node.y.shape[axis + 2]
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if isinstance(size, int) and isinstance(out, int):
            total = strides[axis] * (size - 1) + extra[axis] + reach - out
        elif auto != "NOTSET" and not node.attr("output_shape"):
            total = extra[axis] + reach - strides[axis]  # out = size * stride
        else:
            raise node.unsupported("its output_shape and the input's size are needed as numbers")
        total = max(total, 0)
        begin.append(total // 2 if auto == "SAME_UPPER" else total - total // 2)
    return begin


@vjp("Col2Im")
def col2im(node: NodeView, gy: Value) -> Gradients:
    """y = the columns of x `[N, C prod(block), L]` placed as blocks of an image, overlaps added.

    gx = the blocks of gy as columns, which a convolution extracts with one unit vector per element of a block.
    """
    block = node.ints(2, "block sizes")
    assert block is not None
    size, rank = prod(block), len(block)
    shapes.table_size(size, size)
    plane = gy.reshape([-1, 1, *shapes.dim_parts(gy, 3)], (None, 1, *gy.shape[3:]))
    units = node.constant(np.eye(size).reshape(size, 1, *block), gy.dtype)
    columns = node.emitter.one(
        "Conv", [plane, units], gy.dtype, (None, size, *[None] * rank), kernel_shape=block,
        pads=node.attr("pads", [0] * 2 * rank), strides=node.attr("strides", [1] * rank),
        dilations=node.attr("dilations", [1] * rank),
    )  # fmt: skip
    return columns.reshape_like(node.x, gy)
