"""This module holds the gradient rules of pooling."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp
from onnx_xcam.surgery.rules.windows import Windows, scatter_windows, window_counts, windows_of

_MOST_PHASES = 4096
_WIDE = 4096
"""Windows of more elements do not become a convolution kernel: with ceil_mode they may be far larger than the input."""


@vjp("GlobalAveragePool", constant_axes=True)
def global_average_pool(node: NodeView, gy: Value) -> Gradients:
    """y = mean of x over space;  gx = gy / n at every position."""
    return gy / shapes.element_count(node.x, range(2, node.x.rank)).cast(gy.dtype)


@vjp("GlobalMaxPool")
def global_max_pool(node: NodeView, gy: Value) -> Gradients:
    """y = max of x over space;  gx = gy at the first position of the maximum, zeros elsewhere."""
    x = node.x
    flat = x.reshape([*shapes.dim_parts(x, 0, 2), -1], (*x.shape[:2], dims.known_size(x.shape[2:])))
    chosen = flat.range_of(2).equal(flat.argmax(2))
    column = gy.reshape([0, 0, 0, 1], (*gy.shape[:3], 1))
    return column.masked(chosen).reshape_like(x)


@vjp("AveragePool")
def average_pool(node: NodeView, gy: Value) -> Gradients:
    """y = sum of x over a window / count;  gx = the sum of gy / count over the windows that cover a position."""
    x = node.x
    windows = windows_of(node, node.attr("kernel_shape"))
    if _covers_all(windows, x, node.y):
        return gy / prod(windows.kernel)
    return _added_to_windows(gy / window_counts(node, windows, bool(node.attr("count_include_pad", 0))), windows, x)


def _added_to_windows(share: Value, windows: Windows, x: Value) -> Value:
    """Return for each position of x the sum of the shares, `[K, N, C, *windows]`, of the windows that cover it."""
    if prod(windows.kernel) > _WIDE:
        return _added_by_axes(share, windows, x)
    # All channels are pooled alike, so they can stand in the batch of a convolution with a kernel of ones.
    single = share.reshape([-1, 1, *shapes.dim_parts(share, 3)], (None, 1, *share.shape[3:]))
    ones = x.emitter.constant(np.ones((1, 1, *windows.kernel), share.dtype))
    plane = x.with_shape((None, 1, *x.shape[2:]))
    return scatter_windows(single, ones, windows, 1, plane).reshape_like(x, share)


def _added_by_axes(share: Value, windows: Windows, x: Value) -> Value:
    """Return the sums of `_added_to_windows` by one matrix product per axis, for windows of any size.

    The matrix has a one where a window covers a position. Neither time nor memory depends on the size of the windows.
    """
    rank, last = len(windows.kernel), share.rank - 1
    perm = [*range(last + 1 - rank), last, *range(last + 1 - rank, last)]
    for axis in reversed(range(rank)):
        covered = _covered(share.range_of(last), x.range_of(axis + 2), windows, axis).cast(share.dtype)
        share = (share @ covered).transpose(perm)
    return share


def _covered(window: Value, position: Value, windows: Windows, axis: int) -> Value:
    """Return which positions of the input each window along an axis covers, bool `[windows, positions]`."""
    if isinstance(window.shape[0], int) and isinstance(position.shape[0], int):
        shapes.table_size(window.shape[0], position.shape[0])
    start = window * windows.strides[axis] - windows.begin[axis]
    offset = position.unsqueeze([0]) - start.unsqueeze([1])
    inside = (offset < 0).logical_not().logical_and(offset < windows.extent[axis])
    dilation = windows.dilations[axis]
    return inside if dilation == 1 else inside.logical_and((offset / dilation * dilation).equal(offset))


def _covers_all(windows: Windows, x: Value, y: Value) -> bool:
    """Tell whether there is just one window, and it is the whole input."""
    return (
        all(size == 1 for size in y.shape[2:])
        and list(x.shape[2:]) == list(windows.kernel)
        and all(d == 1 for d in windows.dilations)
        and all(b == 0 for b in windows.begin)
    )


@vjp("LpPool", "GlobalLpPool")
def lp_pool(node: NodeView, gy: Value) -> Gradients:
    """y = (sum of |x|^p over a window)^(1/p);  gx = |x|^(p-1) sign(x) times the sum of gy y^(1-p) over its windows.

    A window of zeros, where y = 0, has no part in that sum.
    """
    x, y = node.x, node.y
    p: int = node.attr("p", 2)
    share = gy if p == 1 else (y > 0).where(gy * (y > 0).where(y, 1) ** (1 - p), 0)
    if node.op == "LpPool":
        share = _added_to_windows(share, windows_of(node, node.attr("kernel_shape")), x)
    slope = {1: x.sign(), 2: x}.get(p, x.sign() * x.abs() ** (p - 1))
    return share * slope


@vjp("MaxPool")
def max_pool(node: NodeView, gy: Value) -> Gradients:
    """y = max of x over a window;  gx = the sum of gy over the windows that have their maximum at a position.

    The positions come from a second MaxPool on x. If the model's own node, or an identical copy, gave them, ONNX
    Runtime would lose its blocked layout (NCHWc) there. So the copy differs: it gives attributes that the model leaves
    out.
    """
    x, windows = node.x, windows_of(node, node.attr("kernel_shape"))
    indices = _indices(node, windows)
    target = gy.zeros([shapes.dim_part(gy, 0), _size(x)])
    if node.opset >= 16 or not windows.overlap:
        return _scattered(target, indices, gy, add=windows.overlap).reshape_like(x)
    # Windows that lie `reach` apart do not overlap: one plain scatter for each of these phases.
    reach = [-(-e // s) for e, s in zip(windows.extent, windows.strides, strict=True)]
    if prod(reach) > _MOST_PHASES:
        raise node.unsupported("its windows overlap too much for this opset; raise the model to opset 16")
    axes = list(range(2, x.rank))
    total: Value | None = None
    for phase in product(*(range(r) for r in reach)):
        ends = [np.iinfo(np.int64).max] * len(axes)
        some = indices.slice(list(phase), ends, axes, reach)
        part = _scattered(target, some, gy.slice(list(phase), ends, [a + 1 for a in axes], reach), add=False)
        total = part if total is None else total + part
    assert total is not None
    return total.reshape_like(x)


def _indices(node: NodeView, windows: Windows) -> Value:
    """Return for each window the position of its maximum in the whole flattened input, int64 `[N, C, *windows]`."""
    pads = None if node.attr("auto_pad", "NOTSET") != "NOTSET" else node.attr("pads") or [0] * 2 * len(windows.kernel)
    y = node.y
    return node.emitter.node(
        "MaxPool", [node.x], [(y.dtype, y.shape), (np.int64, y.shape)], kernel_shape=list(windows.kernel), pads=pads,
        strides=list(windows.strides), dilations=list(windows.dilations), ceil_mode=node.attr("ceil_mode", 0),
        auto_pad=node.attr("auto_pad", "NOTSET"), storage_order=0,
    )[1]  # fmt: skip


def _size(x: Value) -> shapes.Part:
    """Return the number of elements of x as an entry of a shape."""
    known = dims.known_size(x.shape)
    return known if known is not None else x.emitter.one("Size", [x], np.int64, ()).unsqueeze([0])


def _scattered(target: Value, indices: Value, gy: Value, *, add: bool) -> Value:
    """Return `target` `[K, size]` with gy `[K, N, C, *windows]` written, or added, at flat `indices`."""
    flat = indices.reshape([1, -1], (1, dims.known_size(indices.shape)))
    places = flat.expand([shapes.dim_part(gy, 0), 1], (gy.shape[0], flat.shape[1]))
    updates = gy.reshape([0, -1], (gy.shape[0], flat.shape[1]))
    return target.scatter_elements(places, updates, 1, add=add)
