"""This module emits the finished map, its status and its heat map for one layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.fusion import Fusion, fused
from onnx_xcam.cams.methods import Formula
from onnx_xcam.cams.numpy_arrays import window_matrix
from onnx_xcam.contract import GOOD, GRADIENT_ZERO, MAP_ZERO, NO_OBJECT, NOT_FINITE, Grid, Layout, Window
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.values import INT_MAX, Value
from onnx_xcam.surgery.ir import dims


class EmittedArrays:
    """EmittedArrays implements the operations of `cams.arrays.Arrays` for values of the graph."""

    def relu(self, x: Value) -> Value:
        """Emit max(x, 0)."""
        return x.relu()

    def absolute(self, x: Value) -> Value:
        """Emit |x|."""
        return x.abs()

    def square_root(self, x: Value) -> Value:
        """Emit the square root of x."""
        return x.sqrt()

    def space_sum(self, x: Value) -> Value:
        """Emit the sum over the last axis, which is dropped."""
        return x.sum([-1], keepdims=False)

    def space_mean(self, x: Value) -> Value:
        """Emit the mean over the last axis, which is dropped."""
        return x.mean([-1], keepdims=False)

    def channel_sum(self, x: Value) -> Value:
        """Emit the sum over the channels: `[N, K, C, S]` becomes `[N, K, S]`."""
        return x.sum([2], keepdims=False)

    def channel_product(self, weights: Value, x: Value) -> Value:
        """Emit the sum over the channels of `[N, K, C, S]`, weighted by `[N, K, C]`: `[N, K, S]`, in one product."""
        return (weights.unsqueeze([2]) @ x).squeeze([2])

    def field_product(self, x: Value, field: Value) -> Value:
        """Emit the sum over the positions of `[N, K, C, S]`, weighted by `[N, K, S]`: `[N, K, C]`, in one product."""
        return (x @ field.unsqueeze([3])).squeeze([3])

    def swapped(self, x: Value) -> Value:
        """Emit x with its last two axes swapped."""
        return x.swap_last()

    def class_axis(self, x: Value) -> Value:
        """Emit x with an axis for the classes: `[N, C, ...]` becomes `[N, 1, C, ...]`."""
        return x.unsqueeze([1])

    def space_axis(self, x: Value) -> Value:
        """Emit x with an axis of length 1 for the positions: `[N, K, C]` becomes `[N, K, C, 1]`."""
        return x.unsqueeze([x.rank])

    def drop_space(self, x: Value) -> Value:
        """Emit x without the axis of positions, of length 1: `[N, K, C, 1]` becomes `[N, K, C]`."""
        return x.squeeze([3])

    def positions(self, x: Value) -> Value:
        """Emit the length of the last axis, a scalar."""
        return shapes.element_count(x, [x.rank - 1])

    def safe_divisor(self, x: Value) -> Value:
        """Emit x where it is above 0, else 1."""
        return (x > 0).where(x, 1)

    def map_max(self, x: Value) -> Value:
        """Emit the maximum over h and w of maps `[N, K, h, w]`, as `[N, K, 1, 1]`."""
        return x.max([2, 3])

    def maximum(self, x: Value, y: Value) -> Value:
        """Emit the larger of x and y, element by element."""
        return x.maximum(y)

    def resize_linear(self, x: Value, size: Sequence[shapes.Part]) -> Value:
        """Emit maps `[N, K, h, w]` resized to another height and width, linearly between centres of pixels."""
        static = tuple(part if isinstance(part, int) else None for part in size)
        if static == x.shape[2:]:
            return x
        return x.resize_linear([shapes.dim_part(x, 0), shapes.dim_part(x, 1), *size], (*x.shape[:2], *static))

    def windowed(self, x: Value, window: Window) -> Value:
        """Emit maps `[N, K, h, w]`, which cover a window of the input, cut to the input itself, at the same size."""
        height, width = x.shape[2:]
        assert isinstance(height, int)  # a window is known only where the sizes are
        assert isinstance(width, int)
        rows = window_matrix(height, window.top, window.bottom).astype(np.float32)
        columns = window_matrix(width, window.left, window.right).astype(np.float32)
        return x.emitter.constant(rows) @ x @ x.emitter.constant(columns.T)


@dataclass(frozen=True)
class Cam:
    """A Cam holds the map of one layer and what the map was made of.

    Attributes:
        map: float32 `[N, K, h, w]`, after the ReLU if there is one, all zero where something is not finite.
        gradients: float32 `[N, K, C, S]` or `[N, K, C, 1]`; of a sum of maps its largest magnitude, `[N, K, 1, 1]`.
        finite: whether the map is finite, bool `[N, K, 1, 1]`.
        relu: whether the map is without negative values.
        space: height and width of the map, as parts of a shape.
    """

    map: Value
    gradients: Value
    finite: Value
    relu: bool
    space: Sequence[shapes.Part]


def emit_cam(
    formula: Formula,
    activations: Value,
    gradients: Value,
    *,
    layout: Layout,
    grid: Grid | None,
    space: Sequence[shapes.Part],
    non_negative: bool,
    relu: bool,
) -> Cam:
    """Emit the map of a layer.

    Args:
        formula: the method's formula.
        activations: A in the model's layout, `[N, ...]`.
        gradients: G, `[K, N, ...]` in the same layout, with size 1 along axes where it is constant.
        layout: what the axes of A mean.
        grid: the token positions of a layer of tokens; other tokens take no part.
        space: height and width of the layer.
        non_negative: whether A is known to hold no negative value.
        relu: whether evidence against the class is left out.
    """
    a, g = activations.cast(np.float32), gradients.cast(np.float32)
    if grid is not None:
        a, g = (_grid_tokens(value, grid, layout.find("T") - len(layout)) for value in (a, g))
        static: dims.Shape = (grid.height, grid.width)
    else:
        static = tuple(activations.shape[layout.find(axis)] for axis in "HW")
    perm = [layout.find(axis) for axis in ("NCT" if grid is not None else "NCHW")]
    g = _lined_up_gradients(g, a, perm)
    xp = EmittedArrays()
    raw: Value = map_of(xp, formula(xp, _lined_up(a, perm), g, non_negative=non_negative))
    raw = raw.settled()  # directly after the product, so that ONNX Runtime can fuse them
    kept = [shapes.dim_part(raw, 0) if isinstance(raw.shape[0], int) else 0, 0]
    raw = raw.reshape([*kept, *space], (activations.shape[0], gradients.shape[0], *static))
    return _finished(raw, g, space, relu)


def _finished(raw: Value, gradients: Value, space: Sequence[shapes.Part], relu: bool) -> Cam:
    """Return the finished map, given the map before the ReLU `[N, K, h, w]`."""
    # False for NaN. Comparing 0 times the sum with 0 fails in MNN, where -0 (0 times a negative sum) is not equal to 0.
    finite = raw.sum([2, 3]).abs() < np.inf
    return Cam(finite.where(raw.relu() if relu else raw, 0), gradients, finite, relu, space)


def emit_placed(cam: Cam, place: Callable[[Value], Value], space: Sequence[shapes.Part]) -> Cam:
    """Emit the map of a layer that was computed in windows, each of B = N K windows as one image with one class.

    Args:
        cam: the map in windows, `[B, 1, h', w']`.
        place: puts windows `[B, ..., h', w']` on the layer's grid, zeros around them: `[N, K, ..., h, w]`.
        space: height and width of the layer.
    """
    grid = place(cam.map.squeeze([1]))
    pair: list[shapes.Part] = [shapes.dim_part(grid, 0), -1]
    g = cam.gradients
    gradients = g.reshape([*pair, *shapes.dim_parts(g, 2)], (*grid.shape[:2], *g.shape[2:]))
    finite = cam.finite.reshape([*pair, 1, 1], (*grid.shape[:2], 1, 1))
    return Cam(grid, gradients, finite, cam.relu, space)


def emit_guided(cam: Cam, guided: Value, axes: tuple[int, int], size: Sequence[shapes.Part]) -> Cam:
    """Emit Guided XGrad-CAM: the guided gradient of the input, summed over its colours, times the map resized to it.

    Args:
        cam: the layer's map.
        guided: the guided gradient of the input, `[K, N, ...]`.
        axes: the axes of height and width in the input, `[N, ...]`.
        size: height and width of the input, as parts of a shape.
    """
    colours = next(axis for axis in (1, 2, 3) if axis not in axes)
    summed = guided.cast(np.float32).sum([colours + 1], keepdims=False).transpose([1, 0, 2, 3])
    large = EmittedArrays().resize_linear(cam.map, size)
    return _finished(large * summed, cam.gradients, size, cam.relu)


def emit_sum(cams: Sequence[Cam], *, relu: bool, window: Window | None = None) -> Cam:
    """Emit the sum of the maps of a cut's members, each resized (linear) to the grid of the finest of them.

    Args:
        cams: the members' maps, before any ReLU.
        relu: whether evidence against the class is left out of the sum.
        window: which part of the input the members cover, to cut the map to the input; None for all of it.
    """
    space = _finest(cams).space
    total, finite = EmittedArrays().resize_linear(cams[0].map, space), cams[0].finite
    gradients = cams[0].gradients
    strongest = gradients.abs().max([2, 3])
    for cam in cams[1:]:
        total = total + EmittedArrays().resize_linear(cam.map, space)
        finite = finite.logical_and(cam.finite)
        strongest = strongest.maximum(cam.gradients.abs().max([2, 3]))
    if window is not None:
        total = EmittedArrays().windowed(total, window)
    total = finite.where(total, np.inf)  # what is not finite in one member's map is not known in their sum
    return _finished(total, strongest if len(cams) > 1 else gradients, space, relu)


def emit_fused(cams: Sequence[Cam], how: Fusion) -> Value:
    """Emit the fusion of several layers' maps, on the grid of the finest of them: float32 `[N, K, h, w]`."""
    result: Value = fused(EmittedArrays(), [cam.map for cam in cams], _finest(cams).space, how)
    return result


def _finest(cams: Sequence[Cam]) -> Cam:
    """Return the layer with the largest map if all sizes are known, else the first."""
    sizes = [dims.known_size(cam.map.shape[2:]) for cam in cams]
    known = [size for size in sizes if size is not None]
    return cams[sizes.index(max(known))] if len(known) == len(cams) else cams[0]


def _grid_tokens(value: Value, grid: Grid, from_end: int) -> Value:
    """Emit the values at the grid's tokens alone; a value that is constant over tokens stays as it is.

    Args:
        value: A or G.
        grid: the token positions of the layer.
        from_end: the axis of the tokens, negative.
    """
    axis, part = value.rank + from_end, grid.tokens
    if value.shape[axis] == 1 or not (grid.before or grid.after):
        return value
    stop = INT_MAX if part.stop is None else part.stop
    cut = value.slice([part.start], [stop], [axis])
    return cut.with_shape((*value.shape[:axis], grid.size, *value.shape[axis + 1 :]))


def _lined_up(a: Value, perm: Sequence[int]) -> Value:
    """Emit A as `[N, C, S]`, given the axes of its images, channels and positions."""
    a = a.transpose(perm)
    if a.rank == 3:
        return a
    size = dims.known_size(a.shape[2:])
    channels = shapes.dim_part(a, 1)
    lead: shapes.Part = a.shape[0] if isinstance(a.shape[0], int) else 0
    return a.reshape([lead, channels, -1 if size is None else size], (*a.shape[:2], size))


def _lined_up_gradients(g: Value, a: Value, perm: Sequence[int]) -> Value:
    """Emit G as `[N, K, C, S]`, or as `[N, K, C, 1]` where it is constant over space."""
    g = g.transpose([perm[0] + 1, 0, *(axis + 1 for axis in perm[1:])])
    a = a.transpose(perm)
    if g.shape[2] == 1 and a.shape[1] != 1:  # constant over channels, and each channel needs a weight
        parts = [shapes.dim_part(a, 1) if axis == 2 else 1 for axis in range(g.rank)]
        g = g.expand(parts, (*g.shape[:2], a.shape[1], *g.shape[3:]))
    if g.rank == 4:
        return g
    if g.shape[3] == 1 and g.shape[4] == 1:
        return g.squeeze([4])
    flat = [axis for axis in (3, 4) if g.shape[axis] == 1 and a.shape[axis - 1] != 1]
    parts = [shapes.dim_part(a, axis - 1) if axis in flat else 1 for axis in range(5)]
    g = g.expand(parts, (*g.shape[:3], *a.shape[2:]))
    size = dims.known_size(a.shape[2:])
    channels: shapes.Part = g.shape[2] if isinstance(g.shape[2], int) else 0
    return g.reshape([0, 0, channels, -1 if size is None else size], (*g.shape[:3], size))


def emit_status(cam: Cam, scores: Value, exists: Value | None = None) -> Value:
    """Emit the status of each map, int64 `[N, K]`; see `contract.STATUS_TEXT`.

    Args:
        cam: the maps.
        scores: float32 `[N, K]`.
        exists: whether there is an object to explain, bool `[N, K]`; None where there always is.
    """
    strongest_gradient = cam.gradients.abs().max([2, 3], keepdims=False)
    strongest = (cam.map if cam.relu else cam.map.abs()).max([2, 3], keepdims=False)
    finite = cam.finite.squeeze([2, 3]).logical_and(scores.abs() < np.inf)
    empty = (strongest > 0).where(GOOD, MAP_ZERO, np.int64)
    known = (strongest_gradient > 0).where(empty, GRADIENT_ZERO)
    status = finite.where(known, NOT_FINITE)
    return status if exists is None else exists.where(status, NO_OBJECT)


def emit_heatmap(cam: Cam, size: Sequence[shapes.Part], static: dims.Shape) -> Value:
    """Emit the map resized (linear, half-pixel centres) to the input's height and width, and scaled for display.

    The map is scaled to 0..1, from its minimum to its maximum; a map that is the same positive number everywhere
    becomes 1. Without the ReLU it is divided by its largest magnitude instead, so that 0 stays 0. A map of zeros stays
    0.
    """
    small = cam.map
    parts = [shapes.dim_part(small, 0), shapes.dim_part(small, 1), *size]
    if not cam.relu:
        large = small.resize_linear(parts, static)
        most = large.abs().max([2, 3])
        return large / (most > 0).where(most, 1)
    above = small - small.min([2, 3])  # before resizing, which leaves rounding noise in a flat map
    large = above.resize_linear(parts, static)
    low = large.min([2, 3])
    spread = large.max([2, 3]) - low
    level = (small.max([2, 3]) > 0).where(1, 0, small.dtype)
    return (spread > 0).where((large - low) / (spread > 0).where(spread, 1), level)
