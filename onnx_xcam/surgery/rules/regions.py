"""This module holds the gradient rule of RoiAlign, which pools regions of feature maps on a grid of bins.

A region is read at sample points inside its bins, each between four pixels. The points of a region form a grid, so that
each weight is a product of one along the height and one along the width: mode avg is two products of matrices,
`y_r = P_r x Q_rᵀ`, and its gradient two more. Regions without any gradient, which are all but a few where one object
is explained, are left out at run time.

The boxes, and the images that they lie on, are held constant, as torchvision's `roi_align` holds them: they were
chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.shapes import Part
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp
from onnx_xcam.surgery.rules.scatter import add_elements

HALF_PIXEL_OPSET = 16
"""From this opset on, RoiAlign has a `coordinate_transformation_mode`, with half_pixel as its default."""
_LEAST = -3.0e38
"""This number is less than any product of a pixel and its weight."""


@dataclass(frozen=True)
class _Points:
    """A _Points says where R regions are read along one axis of the image: at S points in each of their bins.

    Attributes:
        places: the points in pixels, moved into the image, `[R, bins, S]`.
        inside: whether each point lies on the image (up to a pixel beside it) and exists, bool `[R, bins, S]`.
        exists: whether a region has so many points in a bin, bool `[R, 1, S]` or `[1, 1, S]`.
        count: the number of a region's points in a bin, at least 1, `[R, 1, 1]` or `[1, 1, 1]`.
    """

    places: Value
    inside: Value
    exists: Value
    count: Value


@vjp("RoiAlign")
def roi_align(node: NodeView, gy: Value) -> Gradients:
    """y[r,c,b] = the mean, or maximum, over the points in bin b of region r, of x[n_r,c] there.

    Mode avg: y_r = P_r x[n_r] Q_rᵀ, so that gx[n] = sum over the regions r of image n of P_rᵀ gy_r Q_r.
    Mode max: y is the largest product of a pixel beside a point and its bilinear weight (so do ONNX Runtime and onnx's
    evaluator; it is no maximum of interpolated values), and gx = gy times that weight, added at that pixel.
    """
    emitter, rows = node.emitter, _with_gradient(gy)
    g = gy.gather(rows, 1).pad([0], [1], [1])  # and a region without gradient, so that no sum is one over nothing
    regions = emitter.concat([node.input(1).gather(rows, 0), node.constant(np.zeros((1, 4)), node.x.dtype)], 0)
    images = emitter.concat([node.input(2).gather(rows, 0), node.constant([0], np.int64)], 0)
    lines = [_points(node, regions, axis) for axis in (0, 1)]
    of_mode = _of_maximum if str(node.attr("mode", "avg")).lower() == "max" else _of_mean
    return of_mode(node.x, g, images, lines)


def _with_gradient(gy: Value) -> Value:
    """Return the numbers of the regions with a gradient other than zero (NaN is other), int64 1-D."""
    size = gy.abs().sum([0, 2, 3, 4], keepdims=False)
    return gy.emitter.one("NonZero", [size.equal(0).logical_not()], np.int64, (1, None)).squeeze([0])


# --- along one axis ---------------------------------------------------------------------------------------------------


def _points(node: NodeView, regions: Value, axis: int) -> _Points:
    """Return where regions `[R, 4]` (x1, y1, x2, y2) are read along the height (axis 0) or the width (axis 1)."""
    bins = int(node.attr(("output_height", "output_width")[axis], 1))
    default = "half_pixel" if node.opset >= HALF_PIXEL_OPSET else "output_half_pixel"
    half_pixel = node.attr("coordinate_transformation_mode", default) == "half_pixel"
    start, end = (_side(node, regions, column, half_pixel) for column in (1 - axis, 3 - axis))
    length = end - start if half_pixel else (end - start).maximum(1)
    size = length / node.constant(bins, length.dtype)
    samples, exists, count = _samples(node, size)
    shapes.table_size(bins)
    first = node.constant(np.arange(bins).reshape(1, -1, 1), size.dtype) * size + start
    places = first + (samples + 0.5) * size / count
    last = _length(node.x, axis + 2) - 1
    outside = (places < -1).elementwise("Or", places > last + 1, np.bool_)
    return _Points(places.maximum(0).minimum(last), outside.logical_not().logical_and(exists), exists, count)


def _side(node: NodeView, regions: Value, column: int, half_pixel: bool) -> Value:
    """Return one side of the regions in pixels of x, `[R, 1, 1]`."""
    side = regions.slice([column], [column + 1], [1]).unsqueeze([2]) * float(node.attr("spatial_scale", 1.0))
    return side - 0.5 if half_pixel else side


def _samples(node: NodeView, size: Value) -> tuple[Value, Value, Value]:
    """Return the points of a bin, 0, 1, ... as `[1, 1, S]`, which of them a region has, and how many (at least 1).

    Args:
        node: the RoiAlign.
        size: the size of a bin of each region, `[R, 1, 1]`; without a sampling ratio it is, rounded up, the number.
    """
    ratio = int(node.attr("sampling_ratio", 0))
    if ratio > 0:
        shapes.table_size(ratio)
        samples = node.constant(np.arange(ratio).reshape(1, 1, -1), size.dtype)
        return samples, node.constant(np.ones((1, 1, ratio)), np.bool_), node.constant([[[ratio]]], size.dtype)
    emitter = node.emitter
    count = emitter.one("Ceil", [size], size.dtype, size.shape).maximum(1)
    zero, one = (node.constant(number, np.int64) for number in (0, 1))
    most = count.max([0, 1, 2], keepdims=False).cast(np.int64)
    samples = emitter.one("Range", [zero, most, one], np.int64, (None,)).cast(size.dtype).unsqueeze([0, 1])
    return samples, (samples < count).logical_and(size > 0), count


def _length(x: Value, axis: int) -> Value:
    """Return the size of an axis of x, as a scalar of its dtype."""
    part = shapes.dim_part(x, axis)
    return x.emitter.constant(np.array(part, x.dtype)) if isinstance(part, int) else part.squeeze([0]).cast(x.dtype)


# --- the mean ---------------------------------------------------------------------------------------------------------


def _of_mean(x: Value, g: Value, images: Value, lines: list[_Points]) -> Value:
    """Return the gradient of x, `[K, N, C, H, W]`, for a gradient `[K, R, C, bins, bins]` of means.

    The sum over the regions is that of a product too: the bins of all regions are one axis.
    """
    rows, columns = (_weights(x, line, axis) for axis, line in enumerate(lines, 2))
    spread = g.transpose([0, 2, 1, 3, 4]) @ columns
    sizes: list[Part] = [shapes.dim_part(g, 0), 1, shapes.dim_part(g, 2), -1, shapes.dim_part(x, 3)]
    spread = spread.reshape(sizes, (g.shape[0], 1, g.shape[2], None, x.shape[3]))
    own = rows.unsqueeze([0])
    if x.shape[0] != 1:
        own = own * images.equal(x.range_of(0).unsqueeze([1])).cast(x.dtype).unsqueeze([2, 3])
    own = own.reshape([shapes.dim_part(x, 0), 1, -1, shapes.dim_part(x, 2)], (x.shape[0], 1, None, x.shape[2]))
    return (own.swap_last() @ spread).with_shape((g.shape[0], *x.shape))


def _weights(x: Value, line: _Points, axis: int) -> Value:
    """Return the weights of the pixels along an axis in the bins of each region, `[R, bins, pixels]`.

    A point c gives pixel i the weight max(0, 1 - |i - c|), which is linear interpolation.
    """
    near = (1 - (line.places.unsqueeze([3]) - x.range_of(axis).cast(x.dtype)).abs()).relu()
    return near.masked(line.inside.unsqueeze([3])).sum([2], keepdims=False) / line.count


# --- the maximum ------------------------------------------------------------------------------------------------------


def _of_maximum(x: Value, g: Value, images: Value, lines: list[_Points]) -> Value:
    """Return the gradient of x, `[K, N, C, H, W]`, for a gradient `[K, R, C, bins, bins]` of maxima."""
    places, weights, exists = _pixels_beside(x, images, lines)
    pixels, channels = _channels_first(x), shapes.dim_part(x, 1)
    products = pixels.gather(places, 1) * weights
    largest = exists.where(products, _LEAST).argmax(4)
    place, weight = (
        v.unsqueeze([0]).expand([channels, 1, 1, 1, 1]).gather_elements(largest, 4) for v in (places, weights)
    )
    shares = g.transpose([0, 2, 1, 3, 4]) * weight.squeeze([4])
    shares = shares.reshape([*shapes.dim_parts(shares, 0, 2), -1], (*shares.shape[:2], None))
    added = add_elements(shares, place.reshape([channels, -1], (x.shape[1], None)), pixels, 1)
    batch, *space = shapes.dim_part(x, 0), *shapes.dim_parts(x, 2)
    split = added.reshape(
        [*shapes.dim_parts(added, 0, 2), batch, *space], (g.shape[0], x.shape[1], x.shape[0], *x.shape[2:])
    )
    return split.transpose([0, 2, 1, 3, 4])


def _channels_first(x: Value) -> Value:
    """Return images `[N, C, H, W]` as `[C, N H W]`."""
    count = dims.known_size((x.shape[0], *x.shape[2:]))
    return x.transpose([1, 0, 2, 3]).reshape([shapes.dim_part(x, 1), -1], (x.shape[1], count))


def _pixels_beside(x: Value, images: Value, lines: list[_Points]) -> tuple[Value, Value, Value]:
    """Return the pixels beside the points of each bin, their weights, and whether such a point exists.

    The results are `[R, bins, bins, T]`, or broadcast to that, for T pixels beside the points of a bin. A pixel is its
    index, int64, among those of all images.
    """
    (row, down, has_row), (column, across, has_column) = (_taps(x, line, axis) for axis, line in enumerate(lines, 2))
    row, down, has_row = (value.unsqueeze([2, 4]) for value in (row, down, has_row))
    column, across, has_column = (value.unsqueeze([1, 3]) for value in (column, across, has_column))
    first = images.unsqueeze([1, 2, 3, 4]) * shapes.dim_part(x, 2)
    place = (first + row) * shapes.dim_part(x, 3) + column
    together = (place, down * across, has_row.logical_and(has_column))
    place, weight, exists = (v.reshape([*shapes.dim_parts(v, 0, 3), -1], (*v.shape[:3], None)) for v in together)
    return place, weight, exists


def _taps(x: Value, line: _Points, axis: int) -> tuple[Value, Value, Value]:
    """Return the two pixels beside each point along an axis, their weights, and whether the point exists.

    The results are `[R, bins, 2 S]`, or broadcast to that. A point outside of its image gives the weight 0.
    """
    before = line.places.floor()
    after = (before + 1).minimum(_length(x, axis) - 1)
    far = line.places - before
    weights = [weight.masked(line.inside) for weight in (1 - far, far)]
    emitter = x.emitter
    pixels = emitter.concat([before, after], 2).cast(np.int64)
    return pixels, emitter.concat(weights, 2), emitter.concat([line.exists, line.exists], 2)
