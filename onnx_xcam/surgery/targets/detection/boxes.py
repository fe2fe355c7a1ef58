"""This module turns what detectors tell of a box into its corners: x1, y1, x2, y2 in pixels of the model's input.

A box is told as it is (`BoxForm`), or as raw numbers of a place of a grid, which are decoded here:

    distances          x1 = cx - l s, y1 = cy - t s, x2 = cx + r s, y2 = cy + b s          FCOS, SCRFD
    bins               each distance is sum_i i softmax(bins)_i                            GFL, NanoDet, PicoDet
    offsets and exp    centre (x + dx) s, size exp(dw) s                                   YOLOX, YuNet
    offsets and size   centre (x + dx) s, size w s                                         CenterNet

with s the stride of the place's level in pixels, and cx, cy or x, y its place in the grid. Everything here is float32
or float64 `[N, Q, ...]`: N images, Q candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.shapes import Part, dim_parts
from onnx_xcam.surgery.builder.values import Nodes, Value

Order = Literal["x1y1x2y2", "y1x1y2x2", "cxcywh", "x1y1wh"]
"""The order of a box's four numbers: corners, corners with y first, centre and size, or first corner and size."""
Unit = Literal["pixels", "fractions"]
"""The unit of a box's numbers: pixels of the model's input, or fractions of its sides."""


@dataclass(frozen=True)
class Sides:
    """A Sides holds the sides of the model's picture in pixels, as numbers or as int64 `[1]` values."""

    width: Part
    height: Part


@dataclass(frozen=True)
class BoxForm:
    """A BoxForm says how four numbers tell a box.

    Attributes:
        order: what the numbers are, in their order.
        unit: what they are measured in.
    """

    order: Order
    unit: Unit

    def corners(self, boxes: Value, sides: Sides) -> Value:
        """Return boxes `[N, Q, 4]` of this form as x1, y1, x2, y2 in pixels, `[N, Q, 4]`."""
        if self.order == "y1x1y2x2":
            boxes = boxes.gather(boxes.emitter.constant(np.array([1, 0, 3, 2], np.int64)), 2)
        elif self.order != "x1y1x2y2":
            first, size = _halves(boxes)
            if self.order == "cxcywh":
                first -= size * 0.5
            boxes = first.emitter.concat([first, first + size], 2)
        return boxes if self.unit == "pixels" else boxes * side_lengths(boxes, sides)

    @property
    def text(self) -> str:
        """Return the form in words."""
        words = {
            "x1y1x2y2": "x1 y1 x2 y2",
            "y1x1y2x2": "y1 x1 y2 x2",
            "cxcywh": "centre, width and height",
            "x1y1wh": "x1 y1, width and height",
        }
        return f"{words[self.order]} in {self.unit}" + (" of the picture" if self.unit == "fractions" else "")


def side_lengths(like: Value, sides: Sides) -> Value:
    """Return width, height, width, height in the dtype of a value, `[4]`."""
    emitter = like.emitter
    if isinstance(sides.width, int) and isinstance(sides.height, int):
        return emitter.constant(np.array([sides.width, sides.height] * 2, like.dtype))
    both = [_as_value(emitter, part).cast(like.dtype) for part in (sides.width, sides.height)]
    return emitter.concat([*both, *both], 0)


def _as_value(emitter: Nodes, part: Part) -> Value:
    """Return a dimension as an int64 `[1]` value."""
    return part if isinstance(part, Value) else emitter.constant(np.array([part], np.int64))


def _halves(boxes: Value) -> tuple[Value, Value]:
    """Return the first two and the last two of four columns, each `[N, Q, 2]`."""
    return boxes.slice([0], [2], [2]), boxes.slice([2], [4], [2])


# --- grids ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Grid:
    """A Grid says where the candidates of one level lie: row by row, and in each cell one after another.

    Attributes:
        height: the number of rows.
        width: the number of columns.
        stride: the distance of two cells in pixels.
        per_cell: how many candidates each cell has.
    """

    height: Part
    width: Part
    stride: int
    per_cell: int = 1


@dataclass(frozen=True)
class Places:
    """A Places holds for each candidate the place in the picture that its raw numbers refer to.

    Attributes:
        points: x and y in pixels, `[1, Q, 2]`.
        strides: the strides in pixels, `[1, Q, 1]`.
    """

    points: Value
    strides: Value


def places(emitter: Emitter, grids: Sequence[Grid], shift: float, like: Value) -> Places:
    """Return the places of the candidates of some levels, one level behind another.

    Args:
        emitter: takes the added nodes.
        grids: the levels.
        shift: where in its cell a place lies: 0 for the first corner, 0.5 for the middle.
        like: a value of the dtype that is wanted.
    """
    made = [_level(emitter, grid, shift, like) for grid in grids]
    points = emitter.concat([points for points, _ in made], 1)
    strides = emitter.concat([strides for _, strides in made], 1)
    return Places(points, strides)


def _level(emitter: Emitter, grid: Grid, shift: float, like: Value) -> tuple[Value, Value]:
    """Return the places of one level, `[1, Q, 2]`, and their strides, `[1, Q, 1]`."""
    if isinstance(grid.height, int) and isinstance(grid.width, int):
        across = np.mgrid[: grid.height, : grid.width][::-1].reshape(1, 2, -1).swapaxes(1, 2)
        known = ((np.repeat(across, grid.per_cell, 1) + shift) * grid.stride).astype(like.dtype)
        return emitter.constant(known), emitter.constant(np.full((*known.shape[:2], 1), grid.stride, like.dtype))
    rows, lines = (_counted(emitter, _as_value(emitter, part)) for part in (grid.height, grid.width))
    y = rows.cast(like.dtype).unsqueeze([1, 2, 3])
    x = lines.cast(like.dtype).unsqueeze([0, 2, 3])
    cells: list[Part] = [_as_value(emitter, grid.height), _as_value(emitter, grid.width), grid.per_cell, 1]
    both = emitter.concat([one.expand(cells, (None, None, grid.per_cell, 1)) for one in (x, y)], 3)
    points = ((both + shift) * float(grid.stride)).reshape([1, -1, 2], (1, None, 2))
    return points, points.slice([0], [1], [2]) * 0.0 + float(grid.stride)


def _counted(emitter: Emitter, count: Value) -> Value:
    """Return 0, 1, ... up to a count (exclusive), int64, given int64 `[1]`."""
    zero, one = (emitter.constant(np.array(n, np.int64)) for n in (0, 1))
    return emitter.one("Range", [zero, count.squeeze([0]), one], np.int64, (None,))


# --- raw numbers ------------------------------------------------------------------------------------------------------


def from_distances(distances: Value, at: Places, _: Sides) -> Value:
    """Return corners of distances l, t, r, b from each place, in strides: `[N, Q, 4]` -> `[N, Q, 4]`.

    Source: `distance2bbox` of mmdet/core/bbox/transforms.py, as in FCOS (Tian et al., 2019), section 3.1.
    """
    before, behind = _halves(distances * at.strides)
    return distances.emitter.concat([at.points - before, at.points + behind], 2)


def expected_distances(bins: Value) -> Value:
    """Return the mean of each of four distributions over 0, 1, ... n - 1: `[N, Q, 4 n]` -> `[N, Q, 4]`.

    Source: Generalized Focal Loss (Li et al., 2020), equation 5; `Integral` in nanodet/model/head/gfl_head.py.
    """
    emitter, count = bins.emitter, bins.shape[2]
    assert isinstance(count, int)
    n = count // 4
    parts = [*dim_parts(bins, 0, 2), 4, n]
    split = bins.reshape(parts, (*bins.shape[:2], 4, n))
    shares = emitter.one("Softmax", [split], bins.dtype, split.shape, axis=3)
    return (shares @ emitter.constant(np.arange(n, dtype=bins.dtype)[:, None])).squeeze([3])


def from_offsets_and_exp(raw: Value, at: Places, _: Sides) -> Value:
    """Return corners of dx, dy, log w, log h in strides: `[N, Q, 4]` -> `[N, Q, 4]`.

    Source: `decode_outputs` in yolox/models/yolo_head.py; `postProcess` in OpenCV's
    modules/objdetect/src/face_detect.cpp.
    """
    offset, size = _halves(raw)
    return _around(at.points + offset * at.strides, size.exp() * at.strides)


def from_offsets_and_size(raw: Value, at: Places, _: Sides) -> Value:
    """Return corners of dx, dy, w, h in strides: `[N, Q, 4]` -> `[N, Q, 4]`.

    Source: `ctdet_decode` in CenterNet's src/lib/models/decode.py.
    """
    offset, size = _halves(raw)
    return _around(at.points + offset * at.strides, size * at.strides)


def from_centerface(raw: Value, at: Places, sides: Sides) -> Value:
    """Return corners of dy, dx, log h, log w in strides: `[N, Q, 4]` -> `[N, Q, 4]`.

    Source: `decode` in prj-python/centerface.py of Star-Clouds/CenterFace.
    """
    in_order = raw.gather(raw.emitter.constant(np.array([1, 0, 3, 2], np.int64)), 2)
    return from_offsets_and_exp(in_order, at, sides)


def from_pixels(raw: Value, at: Places, _: Sides) -> Value:
    """Return corners of dx, dy, w, h in pixels: `[N, Q, 4]` -> `[N, Q, 4]`.

    Source: `DecodeBoxes` in MediaPipe's tensors_to_detections_calculator.cc, with anchors of size 1 and scales that are
    the sides of the picture.
    """
    offset, size = _halves(raw)
    return _around(at.points + offset, size)


def from_tanh_and_sigmoid(raw: Value, at: Places, sides: Sides) -> Value:
    """Return corners of dx, dy (tanh, in strides) and w, h (sigmoid, in fractions): `[N, Q, 4]` -> `[N, Q, 4]`.

    Source: `handle_preds` in utils/tool.py of dog-qiuqiu/FastestDet.
    """
    offset, size = _halves(raw)
    lengths = side_lengths(raw, sides).slice([0], [2], [0])
    return _around(at.points + offset.tanh() * at.strides, size.sigmoid() * lengths)


def _around(centre: Value, size: Value) -> Value:
    """Return the corners of boxes around centres, given x, y and width, height, each `[N, Q, 2]`."""
    half = size * 0.5
    return half.emitter.concat([centre - half, centre + half], 2)
