"""This module knows where the windows of convolution and pooling lie, and adds gradients of windows at the input.

Along one axis, window `o` covers the input positions `o * stride - begin + j * dilation` for j = 0 .. kernel-1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.shapes import Part
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.node import NodeView


@dataclass(frozen=True)
class Windows:
    """A Windows object describes the windows of a convolution or pooling node, one entry per spatial axis.

    Attributes:
        kernel: window sizes.
        strides: steps between windows.
        dilations: steps inside a window.
        begin: padding before the input; a number, or a value where `auto_pad` depends on a dynamic size.
        end: padding behind the input, None where `auto_pad` depends on the size.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    begin: Sequence[Part]
    end: Sequence[int | None]

    @property
    def extent(self) -> list[int]:
        """Return how many positions a window spans, dilation included."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    @property
    def overlap(self) -> bool:
        """Tell whether two windows can cover the same position."""
        return any(extent > stride for extent, stride in zip(self.extent, self.strides, strict=True))


def windows_of(node: NodeView, kernel: Sequence[int]) -> Windows:
    """Return the windows of a Conv or pooling node with this kernel shape."""
    rank = len(kernel)
    strides = list(node.attr("strides") or [1] * rank)
    dilations = list(node.attr("dilations") or [1] * rank)
    auto = node.attr("auto_pad", "NOTSET")
    pads = [0] * 2 * rank if auto == "VALID" else list(node.attr("pads") or [0] * 2 * rank)
    begin: list[Part] = list(pads[:rank])
    end: list[int | None] = list(pads[rank:])
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        begin = [_same_begin(node, axis, reach[axis], strides[axis], auto) for axis in range(rank)]
        end = [r - 1 - b if s == 1 and isinstance(b, int) else None
               for r, s, b in zip(reach, strides, begin, strict=True)]  # fmt: skip
    return Windows(list(kernel), strides, dilations, begin, end)


def _same_begin(node: NodeView, axis: int, reach: int, stride: int, auto: str) -> Part:
    """Return the padding before the input for which there are ceil(input / stride) windows (auto_pad SAME_*).

    If the whole padding is odd, SAME_LOWER pads one more before the input, and SAME_UPPER one more behind it.
    """
    lower = auto == "SAME_LOWER"
    size = shapes.dim_part(node.x, axis + 2)
    if stride == 1 or isinstance(size, int):
        total = reach - 1
        if stride != 1 and isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        return total - total // 2 if lower else total // 2
    count = shapes.dim_part(node.y, axis + 2)
    assert isinstance(count, Value)
    needed = (count - 1) * stride + reach - size
    needed = (needed > 0).where(needed, 0)
    return needed - needed / 2 if lower else needed / 2


def scatter_windows(g: Value, kernel: Value, windows: Windows, group: int, x: Value) -> Value:
    """Return the transposed convolution of g: the gradient of the convolution's input.

    Args:
        g: the gradient of the convolution's output, `[B, M, *windows]`.
        kernel: the weight, `[M, C / group, *kernel]`.
        windows: where the windows lie.
        group: number of groups.
        x: the convolution's input; the result gets its spatial sizes.

    Returns:
        The gradient, `[B, C, *spatial]`.
    """
    channels = kernel.shape[1] * group if isinstance(kernel.shape[1], int) else None
    shape = (g.shape[0], channels, *x.shape[2:])
    if all(stride == 1 for stride in windows.strides) and channels is not None:
        pads = _flipped_pads(windows)
        if pads is not None:
            return _flipped_conv(g, kernel, windows, group=group, shape=shape, pads=pads)
    return _dilated_conv(g, kernel, windows, group, shape) or _conv_transpose(
        g, kernel, windows, x, group=group, shape=shape
    )


def _flipped_conv(
    g: Value, kernel: Value, windows: Windows, *, group: int, shape: dims.Shape, pads: Sequence[int]
) -> Value:
    """Return the transposed convolution for stride 1: a convolution of g with the flipped kernel."""
    channels = shape[1]
    assert isinstance(channels, int)
    return g.emitter.one(
        "Conv", [g, _flipped(kernel, group, channels)], g.dtype, shape, pads=list(pads), group=group,
        dilations=list(windows.dilations), strides=[1] * len(windows.kernel), kernel_shape=list(windows.kernel),
    )  # fmt: skip


def _dilated_conv(g: Value, kernel: Value, windows: Windows, group: int, shape: dims.Shape) -> Value | None:
    """Return the transposed convolution for larger strides, as one of stride 1 with zeros inserted into g.

    This is for depthwise and pointwise kernels only: on a CPU it takes a half to a third of the time of ONNX Runtime's
    ConvTranspose, which is faster for all other kernels. The result is None for these, and where sizes are dynamic.
    """
    inside, outside = [n for n in g.shape[2:] if isinstance(n, int)], [n for n in shape[2:] if isinstance(n, int)]
    begin = [b for b in windows.begin if isinstance(b, int)]
    if (
        not len(inside) == len(outside) == len(begin) == len(windows.kernel)
        or shape[1] is None
        or g.emitter.may_be_infinite(g)
    ):
        return None
    if all(k == 1 for k in windows.kernel) and not any(begin):
        narrow = _flipped_conv(g, kernel, windows, group=group, shape=(*shape[:2], *inside), pads=[0] * 2 * len(begin))
        return _cropped(_dilated(narrow, windows.strides), shape)
    if not kernel.shape[0] == group == shape[1]:
        return None
    before = [extent - 1 - b for extent, b in zip(windows.extent, begin, strict=True)]
    grown = [n * stride + b - extent + 1 for n, stride, b, extent in
             zip(inside, windows.strides, before, windows.extent, strict=True)]  # fmt: skip
    behind = [max(size - n, 0) for size, n in zip(outside, grown, strict=True)]
    if min(before) < 0:
        return None
    full = (*shape[:2], *(n + b for n, b in zip(grown, behind, strict=True)))
    dilated = _dilated(g, windows.strides)
    wide = _flipped_conv(dilated, kernel, windows, group=group, shape=full, pads=[*before, *behind])
    return _cropped(wide, shape)


def _dilated(g: Value, strides: Sequence[int]) -> Value:
    """Return g with its elements `strides` apart along the last axes, zeros between and behind them."""
    repeated = g.repeat_each(strides)
    mask = np.ones(1)
    for dim, stride in zip(repeated.shape[-len(strides) :], strides, strict=True):
        assert isinstance(dim, int)
        shapes.table_size(mask.size, dim)
        mask = np.multiply.outer(mask, np.arange(dim) % stride == 0)
    return repeated * g.emitter.constant(mask[0].astype(g.dtype))


def _cropped(value: Value, shape: dims.Shape) -> Value:
    """Return the value cut to the spatial sizes of this shape."""
    stops = [dim for dim in shape[2:] if isinstance(dim, int)]
    return value if value.shape == shape else value.slice([0] * len(stops), stops, list(range(2, value.rank)))


def _flipped_pads(windows: Windows) -> list[int] | None:
    """Return the padding with which a convolution with the flipped kernel has exactly the input's size.

    The result is None where it is known only at run time, or would be negative.
    """
    pads = []
    for side in (windows.begin, windows.end):
        for extent, padding in zip(windows.extent, side, strict=True):
            if not isinstance(padding, int) or padding >= extent:
                return None
            pads.append(extent - 1 - padding)
    return pads


def _flipped(kernel: Value, group: int, channels: int) -> Value:
    """Return the kernel `[M, C / group, ...]` as `[C, M / group, ...]`, reversed along the spatial axes."""
    spatial = list(range(2, kernel.rank))
    m, c = kernel.shape[:2]
    if group == 1:
        swapped = kernel.transpose([1, 0, *spatial])
    elif m == group and c == 1:
        swapped = kernel
    else:
        assert isinstance(m, int) and isinstance(c, int)
        sizes = shapes.dim_parts(kernel, 2)
        split = kernel.reshape([group, m // group, c, *sizes], (group, m // group, c, *kernel.shape[2:]))
        swapped = split.transpose([0, 2, 1, *(axis + 1 for axis in spatial)])
        swapped = swapped.reshape([channels, m // group, *sizes], (channels, m // group, *kernel.shape[2:]))
    return swapped.flip(spatial)


def _conv_transpose(g: Value, kernel: Value, windows: Windows, x: Value, *, group: int, shape: dims.Shape) -> Value:
    """Return the transposed convolution by a ConvTranspose node, cut to the input's size at run time if need be."""
    spatial = x.shape[2:]
    common = {"strides": list(windows.strides), "dilations": list(windows.dilations), "group": group,
              "kernel_shape": list(windows.kernel)}  # fmt: skip
    sizes = (*spatial, *g.shape[2:], *windows.begin)
    if all(isinstance(n, int) for n in sizes):
        full = [(o - 1) * s + e for o, s, e in zip(g.shape[2:], windows.strides, windows.extent, strict=True)]  # type: ignore
        over = np.subtract(np.subtract(full, windows.begin), spatial)  # type: ignore[arg-type]
        pads = [*windows.begin, *np.maximum(over, 0).tolist()]
        extra = np.maximum(-over, 0).tolist()
        return g.emitter.one("ConvTranspose", [g, kernel], g.dtype, shape, pads=pads, output_padding=extra, **common)
    grown = g.emitter.one(
        "ConvTranspose", [g, kernel], g.dtype, (*shape[:2], *[None] * len(spatial)),
        pads=[0] * 2 * len(spatial), output_padding=[s - 1 for s in windows.strides], **common,
    )  # fmt: skip
    stops = [shapes.add_parts(b, size) for b, size in zip(windows.begin, shapes.dim_parts(x, 2), strict=True)]
    axes = list(range(2, 2 + len(spatial)))
    return grown.slice(list(windows.begin), stops, axes).with_shape(shape)


def window_counts(node: NodeView, windows: Windows, include_padding: bool) -> Value | int:
    """Return how many elements each window's average is taken over: one number, or a value `[*windows]`.

    Padding counts if `include_padding`; positions beyond the padding, which ceil_mode windows cover, never count.
    """
    pads = node.attr("pads") or [0] * 2 * len(windows.kernel)
    auto = node.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    padded = auto or any(pads)
    if not node.attr("ceil_mode", 0) and (include_padding or not padded):
        return prod(windows.kernel)
    rank = len(windows.kernel)
    total: Value | None = None
    for axis in range(rank):
        end = pads[axis + rank] if include_padding and not auto else 0
        count = _axis_counts(node, windows, axis, include_padding, end)
        count = count.reshape([-1, *[1] * (rank - 1 - axis)], (*count.shape, *[1] * (rank - 1 - axis)))
        total = count if total is None else total * count
    assert total is not None
    return total


def _axis_counts(node: NodeView, windows: Windows, axis: int, include_padding: bool, end: int) -> Value:
    """Return for each window along an axis how many of its positions count, in the dtype of x, `[windows]`."""
    x, y = node.x, node.y
    begin, size = windows.begin[axis], shapes.dim_part(x, axis + 2)
    count = y.shape[axis + 2]
    shapes.table_size(windows.kernel[axis], count if isinstance(count, int) else 1)
    offsets = np.arange(windows.kernel[axis], dtype=np.int64) * windows.dilations[axis]
    starts = y.range_of(axis + 2)
    if starts.const is not None and isinstance(begin, int) and isinstance(size, int):
        positions = starts.const[:, None] * windows.strides[axis] - begin + offsets
        low, high = (-begin, size + end) if include_padding else (0, size)
        return x.emitter.constant(((positions >= low) & (positions < high)).sum(1).astype(x.dtype))
    places = (starts * windows.strides[axis] - begin).unsqueeze([1]) + x.emitter.constant(offsets)
    lowest = 0 - begin if include_padding else 0
    highest = size + end if include_padding else size
    inside = (places < lowest).logical_not().logical_and(places < highest)
    return inside.cast(x.dtype).sum([1], keepdims=False)
