"""The finished map, its status and its heat map, emitted for one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.contract import GOOD, GRADIENT_ZERO, MAP_ZERO, NOT_FINITE, Grid, Layout
from onnx_xcam.surgery.emission import shapes
from onnx_xcam.surgery.emission.values import INT_MAX, Value


class EmittedArrays:
    """`cams.xgrad.Arrays` for values of the graph."""

    def relu(self, x: Value) -> Value:
        """max(x, 0)."""
        return x.relu()

    def space_sum(self, x: Value) -> Value:
        """The sum over the last axis, which is dropped."""
        return x.sum([-1], keepdims=False)

    def class_axis(self, x: Value) -> Value:
        """`[N, C, ...]` as `[N, 1, C, ...]`."""
        return x.unsqueeze([1])

    def drop_space(self, x: Value) -> Value:
        """`[N, K, C, 1]` as `[N, K, C]`."""
        return x.squeeze([3])

    def safe_divisor(self, x: Value) -> Value:
        """x where it is above 0, else 1."""
        return (x > 0).where(x, 1)


@dataclass(frozen=True)
class Cam:
    """The map of one layer and what it was made of.

    Attributes:
        map: float32 `[N, K, h, w]`, after the ReLU, all zero where something is not finite.
        gradients: float32 `[N, K, C, S]` or `[N, K, C, 1]`.
        finite: bool `[N, K, 1, 1]`.
    """

    map: Value
    gradients: Value
    finite: Value


METHODS = {"xgrad-cam": xgrad_cam}


def emit_cam(
    method: str,
    activations: Value,
    gradients: Value,
    *,
    layout: Layout,
    grid: Grid | None,
    space: Sequence[shapes.Part],
    non_negative: bool,
) -> Cam:
    """Emit the map of a layer.

    Args:
        method: a key of `METHODS`.
        activations: A in the model's layout, `[N, ...]`.
        gradients: G, `[K, N, ...]` in the same layout, with size 1 along axes where it is constant.
        layout: what the axes of A mean.
        grid: of a layer of tokens; other tokens take no part.
        space: height and width of the layer.
        non_negative: whether A is known to hold no negative value.
    """
    a, g = activations.cast(np.float32), gradients.cast(np.float32)
    if grid is not None:
        a, g = (_grid_tokens(value, grid, layout.find("T") - len(layout)) for value in (a, g))
        static: shapes.Shape = (grid.height, grid.width)
    else:
        static = tuple(activations.shape[layout.find(axis)] for axis in "HW")
    perm = [layout.find(axis) for axis in ("NCT" if grid is not None else "NCHW")]
    g = _lined_up_gradients(g, a, perm)
    raw = METHODS[method](EmittedArrays(), _lined_up(a, perm), g, non_negative=non_negative)
    raw = raw.settled  # right behind the product, into which ONNX Runtime takes it
    kept = [shapes.dim_part(raw, 0) if isinstance(raw.shape[0], int) else 0, 0]
    raw = raw.reshape([*kept, *space], (activations.shape[0], gradients.shape[0], *static))
    finite = raw.sum([2, 3]).abs() < np.inf  # false of NaN; to MNN -0, as 0 times a sum below 0 would be, is not 0
    return Cam(finite.where(raw.relu(), 0), g, finite)


def _grid_tokens(value: Value, grid: Grid, from_end: int) -> Value:
    """The value with the tokens of the grid alone, or as it is where it is constant over tokens.

    Args:
        value: A or G.
        grid: where they stand.
        from_end: the axis of the tokens, negative.
    """
    axis, part = value.rank + from_end, grid.tokens
    if value.shape[axis] == 1 or not (grid.before or grid.after):
        return value
    stop = INT_MAX if part.stop is None else part.stop
    cut = value.slice([part.start], [stop], [axis])
    return cut.with_shape((*value.shape[:axis], grid.size, *value.shape[axis + 1 :]))


def _lined_up(a: Value, perm: Sequence[int]) -> Value:
    """A as `[N, C, S]`, given the places of its images, channels and positions."""
    a = a.transpose(perm)
    if a.rank == 3:
        return a
    size = shapes.known_size(a.shape[2:])
    channels = shapes.dim_part(a, 1)
    lead: shapes.Part = a.shape[0] if isinstance(a.shape[0], int) else 0
    return a.reshape([lead, channels, -1 if size is None else size], (*a.shape[:2], size))


def _lined_up_gradients(g: Value, a: Value, perm: Sequence[int]) -> Value:
    """G as `[N, K, C, S]`, or `[N, K, C, 1]` where it is constant over space."""
    g = g.transpose([perm[0] + 1, 0, *(axis + 1 for axis in perm[1:])])
    a = a.transpose(perm)
    if g.rank == 4:
        return g
    if g.shape[3] == 1 and g.shape[4] == 1:
        return g.squeeze([4])
    flat = [axis for axis in (3, 4) if g.shape[axis] == 1 and a.shape[axis - 1] != 1]
    parts = [shapes.dim_part(a, axis - 1) if axis in flat else 1 for axis in range(5)]
    g = g.expand(parts, (*g.shape[:3], *a.shape[2:]))
    size = shapes.known_size(a.shape[2:])
    channels: shapes.Part = g.shape[2] if isinstance(g.shape[2], int) else 0
    return g.reshape([0, 0, channels, -1 if size is None else size], (*g.shape[:3], size))


def emit_status(cam: Cam, scores: Value) -> Value:
    """The status of each map, int64 `[N, K]`; see `contract.STATUS_TEXT`."""
    strongest_gradient = cam.gradients.abs().max([2, 3], keepdims=False)
    strongest = cam.map.max([2, 3], keepdims=False)
    finite = cam.finite.squeeze([2, 3]).logical_and(scores.abs() < np.inf)
    empty = (strongest > 0).where(GOOD, MAP_ZERO, np.int64)
    known = (strongest_gradient > 0).where(empty, GRADIENT_ZERO)
    return finite.where(known, NOT_FINITE)


def emit_heatmap(cam: Cam, size: Sequence[shapes.Part], static: shapes.Shape) -> Value:
    """The map resized (linear, half-pixel centres) to the input's height and width and scaled to 0..1.

    A map that is the same positive number everywhere becomes 1, a map of zeros stays 0.
    """
    small = cam.map
    above = small - small.min([2, 3])  # first: resizing a flat map would leave rounding noise to be scaled up
    large = above.resize_linear([shapes.dim_part(small, 0), shapes.dim_part(small, 1), *size], static)
    low = large.min([2, 3])
    spread = large.max([2, 3]) - low
    level = (small.max([2, 3]) > 0).where(1, 0, small.dtype)
    return (spread > 0).where((large - low) / (spread > 0).where(spread, 1), level)
