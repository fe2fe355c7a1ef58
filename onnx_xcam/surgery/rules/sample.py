"""This module holds the gradient rules of GridSample and AffineGrid, which read an image between its pixels.

Along each axis a position `c` reads a few pixels, its taps: pixel `i_j` with a weight that depends on the position
inside its cell, `t = c - floor(c)`. In several dimensions a corner is one tap of each axis, and its weight is the
product of their weights. Padding concerns the pixel alone: a pixel outside the image counts as zero, or another one is
read instead. ONNX Runtime and PyTorch pad like this; onnx's own evaluator moves the position in mode cubic, which
differs beside the border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import TypeAlias

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.shapes import Part
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp

CUBIC = -0.75
"""The parameter of the cubic weights, as in PyTorch."""

Weight: TypeAlias = "Value | float"


@dataclass(frozen=True)
class Tap:
    """A Tap is one pixel that each position reads along an axis, with its weight.

    Attributes:
        index: the pixel's index, int64 `[N, P]`, inside the image.
        weight: the factor of the pixel, `[N, P]` or a number.
        slope: the weight's derivative with respect to the position, `[N, P]` or a number.
    """

    index: Value
    weight: Weight
    slope: Weight


@vjp("AffineGrid")
def affine_grid(node: NodeView, gy: Value) -> Gradients:
    """y[n,p] = A_n q_p + b_n, theta_n = [A_n | b_n], q the regular grid of points;  gA = sum_p gy qᵀ, gb = sum_p gy.

    The grid q is the result of the same operator for A = 1, b = 0.
    """
    rank = node.y.shape[-1]
    if not isinstance(rank, int):
        raise node.unsupported("the number of its dimensions is known only at run time")
    emitter, space = node.emitter, node.y.shape[1:-1]
    one_image = emitter.concat([node.constant([1], np.int64), node.input(1).slice([1], [rank + 2], [0])], 0)
    unit = node.constant(np.eye(rank, rank + 1)[None], gy.dtype)
    shape = (1, *space, rank)
    points = emitter.one("AffineGrid", [unit, one_image], gy.dtype, shape, align_corners=node.attr("align_corners", 0))
    points = points.reshape([-1, rank], (dims.known_size(space), rank))
    g = gy.reshape([*shapes.dim_parts(gy, 0, 2), -1, rank], (*gy.shape[:2], points.shape[0], rank)).swap_last()
    return emitter.concat([g @ points, g.sum([3])], 3)


@vjp("GridSample")
def grid_sample(node: NodeView, gy: Value) -> Gradients:
    """y[n,c,p] = sum over corners j of w_j x[n,c,i_j], with w_j and i_j from the position grid[n,p].

    gx = w_j gy added at i_j;  ggrid[n,p,a] = (size of a pixel) sum_j (dw_j / da) sum_c gy[n,c,p] x[n,c,i_j],
    which is zero in mode nearest.
    """
    x, grid = node.inputs
    lines = [_taps(node, position, axis) for axis, position in enumerate(_positions(node), 2)]
    g = gy.reshape([*shapes.dim_parts(gy, 0, 3), -1], (*gy.shape[:3], dims.known_size(gy.shape[3:])))
    gx = _image_gradient(g, x, lines).reshape_like(x) if node.needs(0) else None
    if not node.needs(1):
        return gx, None
    if node.attr("mode") == "nearest":
        return gx, gy.zeros([shapes.dim_part(gy, 0), *[1] * grid.rank])
    return gx, _grid_gradient(node, g, lines).reshape_like(grid).cast(grid.dtype)


def _positions(node: NodeView) -> list[Value]:
    """Return for each spatial axis the positions in pixels, `[N, P]`.

    The grid gives them from -1 to 1, and the last axis first.
    """
    x, grid = node.inputs
    rank = x.rank - 2
    flat = grid.reshape([shapes.dim_part(grid, 0), -1, rank], (grid.shape[0], dims.known_size(grid.shape[1:-1]), rank))
    positions = []
    for axis in range(rank):
        place = flat.slice([rank - 1 - axis], [rank - axis], [2]).squeeze([2])
        size = _size(x, axis + 2)
        aligned = node.attr("align_corners", 0)
        positions.append((place + 1) / 2 * (size - 1) if aligned else ((place + 1) * size - 1) / 2)
    return positions


def _size(x: Value, axis: int) -> Weight:
    """Return the size of an axis in the dtype of x, as a number where it is known."""
    return _scalar(shapes.dim_part(x, axis), x)


def _scalar(part: Part, x: Value) -> Weight:
    """Return an entry of a shape in the dtype of x, as a number where it is known."""
    return float(part) if isinstance(part, int) else part.squeeze([0]).cast(x.dtype)


# --- along one axis ---------------------------------------------------------------------------------------------------


def _taps(node: NodeView, position: Value, axis: int) -> list[Tap]:
    """Return the taps that the positions `[N, P]` read along an axis of x."""
    nearest = node.attr("mode") == "nearest"
    base = position.round() if nearest else position.floor()
    size = shapes.dim_part(node.x, axis)
    taps = []
    for offset, weight, slope in _weights(node.attr("mode", "linear"), position - base):
        taps.append(_padded(node, base + offset, size, weight, slope))
    return taps


def _padded(node: NodeView, pixel: Value, size: Part, weight: Weight, slope: Weight) -> Tap:
    """Return the tap of a pixel that may lie outside an axis of this size, as the node's padding mode says."""
    padding = node.attr("padding_mode", "zeros")
    if padding == "reflection":
        pixel = _reflected(pixel, size, bool(node.attr("align_corners", 0)))
    if padding != "zeros":
        return Tap(_clamped(pixel, size), weight, slope)
    inside = (pixel > -1).logical_and(pixel < _scalar(size, pixel))
    return Tap(_clamped(pixel, size), *(inside.where(w, 0, pixel.dtype) for w in (weight, slope)))


def _weights(mode: str, t: Value) -> list[tuple[int, Weight, Weight]]:
    """Return for each tap its offset from pixel floor(c), its weight, and the weight's derivative with respect to c."""
    if mode == "nearest":
        return [(0, 1.0, 0.0)]
    if mode in ("linear", "bilinear"):
        return [(0, 1 - t, -1.0), (1, t, 1.0)]
    return [
        (-1, _far(1 + t), _far_slope(1 + t)),
        (0, _near(t), _near_slope(t)),
        (1, _near(1 - t), -_near_slope(1 - t)),
        (2, _far(2 - t), -_far_slope(2 - t)),
    ]


def _near(u: Value) -> Value:
    """Return the cubic weight at a distance u < 1: (a + 2) u³ - (a + 3) u² + 1."""
    return (u * (CUBIC + 2) - (CUBIC + 3)) * u * u + 1


def _near_slope(u: Value) -> Value:
    """Return the derivative of the cubic weight at a distance u < 1: 3 (a + 2) u² - 2 (a + 3) u."""
    return (u * (3 * (CUBIC + 2)) - 2 * (CUBIC + 3)) * u


def _far(u: Value) -> Value:
    """Return the cubic weight at a distance 1 < u < 2: a u³ - 5 a u² + 8 a u - 4 a."""
    return ((u * CUBIC - 5 * CUBIC) * u + 8 * CUBIC) * u - 4 * CUBIC


def _far_slope(u: Value) -> Value:
    """Return the derivative of the cubic weight at a distance 1 < u < 2: 3 a u² - 10 a u + 8 a."""
    return (u * (3 * CUBIC) - 10 * CUBIC) * u + 8 * CUBIC


def _reflected(pixel: Value, size: Part, align_corners: bool) -> Value:
    """Return the pixel reflected into the image, at the outermost pixels' centres (align_corners) or at their edges."""
    length = _scalar(size, pixel)
    if align_corners:
        period = (length - 1) * 2
        period = max(period, 1.0) if isinstance(period, float) else period.maximum(1)
        last = period
    else:
        period = length * 2
        last = period - 1
    place = pixel - (pixel / period).floor() * period
    return place.minimum(last - place)


def _clamped(pixel: Value, size: Part) -> Value:
    """Return the pixel, int64, or the outermost one where it lies outside the axis."""
    return pixel.maximum(0).minimum(_scalar(size, pixel) - 1).cast(np.int64)


# --- in space ---------------------------------------------------------------------------------------------------------


def _corners(x: Value, lines: list[list[Tap]]) -> Iterator[tuple[tuple[Tap, ...], Value]]:
    """Yield the taps of each corner, and the corner's position in the flattened image, int64 `[N, P]`."""
    for taps in product(*lines):
        place = taps[0].index
        for axis, tap in enumerate(taps[1:], 3):
            place = place * shapes.dim_part(x, axis) + tap.index
        yield taps, place


def _flat(x: Value) -> Value:
    """Return an image `[N, C, ...]` as `[N, C, pixels]`."""
    return x.reshape([*shapes.dim_parts(x, 0, 2), -1], (*x.shape[:2], dims.known_size(x.shape[2:])))


def _image_gradient(g: Value, x: Value, lines: list[list[Tap]]) -> Value:
    """Return the gradient of x, `[K, N, C, pixels]`: g `[K, N, C, P]` times the weights, added at the corners."""
    sizes = shapes.dim_parts(x, 2)
    known = [size for size in sizes if isinstance(size, int)]
    pixels = prod(known) if len(known) == len(sizes) else shapes.dim_part(_flat(x), 2)
    total = g.zeros([*shapes.dim_parts(g, 0, 3), pixels])
    for taps, place in _corners(x, lines):
        places = place.unsqueeze([0, 2]).expand([shapes.dim_part(g, 0), 1, shapes.dim_part(g, 2), 1], g.shape)
        total = total.scatter_elements(places, _times(g, [tap.weight for tap in taps], [1]), 3, add=True)
    return total


def _times(g: Value, weights: list[Weight], axes: list[int]) -> Value:
    """Return g times weights `[N, P]`, to which `axes` of size 1 are added so that they broadcast."""
    for weight in weights:
        g = g * (weight.unsqueeze(axes) if isinstance(weight, Value) and weight.rank else weight)
    return g


def _grid_gradient(node: NodeView, g: Value, lines: list[list[Tap]]) -> Value:
    """Return the gradient of the grid, `[K, N, P, spatial axes]`, the last spatial axis first."""
    x, flat = node.x, _flat(node.x)
    sums: list[Value | None] = [None] * len(lines)
    for taps, place in _corners(x, lines):
        places = place.unsqueeze([1]).expand(
            [1, shapes.dim_part(x, 1), 1], (place.shape[0], x.shape[1], place.shape[1])
        )
        read = (g * flat.gather_elements(places, 2)).sum([2], keepdims=False)
        for axis, tap in enumerate(taps):
            others = [other.weight for other in taps if other is not tap]
            share = _times(read, [tap.slope, *others], [])
            sums[axis] = share if sums[axis] is None else sums[axis] + share  # type: ignore[operator]
    aligned = bool(node.attr("align_corners", 0))
    columns = []
    for axis, total in enumerate(sums):
        assert total is not None
        size = _size(x, axis + 2)
        columns.append((total * ((size - 1 if aligned else size) / 2)).unsqueeze([3]))
    return node.emitter.concat(columns[::-1], 3)
