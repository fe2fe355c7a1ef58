"""Boxes: every form as corners in pixels, raw numbers of grids of known and of symbolic sides."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.models import session
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.targets.detection.boxes import (
    BoxForm,
    Grid,
    Sides,
    expected_distances,
    from_distances,
    from_offsets_and_exp,
    from_offsets_and_size,
    from_pixels,
    from_tanh_and_sigmoid,
    places,
)

WIDTH, HEIGHT = 24, 16
SIDES = {"fixed": (WIDTH, HEIGHT), "symbolic": ("W", "H")}
GRIDS = [(8, 2), (4, 1)]
"""Stride and candidates per cell of each level."""
COUNT = sum(HEIGHT // s * (WIDTH // s) * k for s, k in GRIDS)


def run(emit, kind, raw):
    """What `emit(raw, picture's sides, grids)` returns for an image of fixed or of symbolic sides."""
    emitter = Emitter(13, lambda _: False)
    w, h = SIDES[kind]
    picture = emitter.input("image", np.float32, ("N", 3, h, w))
    value = emitter.input("raw", np.float32, ("N", "Q", raw.shape[2]))
    sides = [shapes.dim_part(picture, axis) for axis in (3, 2)]
    strides = [emitter.constant(np.array([s], np.int64)) if kind == "symbolic" else s for s, _ in GRIDS]
    grids = [
        Grid(*[side.elementwise("Div", s) if kind == "symbolic" else side // s for side in sides[::-1]], stride, cells)
        for (stride, cells), s in zip(GRIDS, strides, strict=True)
    ]
    emitter.named(emit(value, Sides(*sides), lambda shift: places(emitter, grids, shift, value)), "boxes")
    graph = export(emitter, ["boxes"], 8)
    graph.name = "boxes"
    kinds = [("image", ("N", 3, h, w)), ("raw", ("N", "Q", raw.shape[2]))]
    graph.input.extend(onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in kinds)
    graph.output.append(onnx.ValueInfoProto(name="boxes"))
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    image = np.zeros((len(raw), 3, HEIGHT, WIDTH), np.float32)
    return session(model).run(None, {"image": image, "raw": raw})[0]


def numbers(columns=4, rows=COUNT):
    return np.random.default_rng(2).normal(0, 1, (2, rows, columns)).astype(np.float32)


def cells(shift):
    """The place of each candidate and its stride, written with loops."""
    listed = [
        ((x + shift) * s, (y + shift) * s, s)
        for s, per_cell in GRIDS for y in range(HEIGHT // s) for x in range(WIDTH // s) for _ in range(per_cell)
    ]  # fmt: skip
    return (np.array(column)[None] for column in zip(*listed, strict=True))


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize("unit", ["pixels", "fractions"])
@pytest.mark.parametrize("order", ["x1y1x2y2", "y1x1y2x2", "cxcywh", "x1y1wh"])
def test_every_form_becomes_corners_in_pixels(order, unit, kind):
    x1, y1, w, h = 3.0, 2.0, 8.0, 4.0
    told = {
        "x1y1x2y2": (x1, y1, x1 + w, y1 + h),
        "y1x1y2x2": (y1, x1, y1 + h, x1 + w),
        "cxcywh": (x1 + w / 2, y1 + h / 2, w, h),
        "x1y1wh": (x1, y1, w, h),
    }[order]
    sides = np.array([HEIGHT, WIDTH] * 2 if order == "y1x1y2x2" else [WIDTH, HEIGHT] * 2)
    raw = np.array(told)[None, None] / (sides if unit == "fractions" else 1)
    found = run(lambda value, sides, _: BoxForm(order, unit).corners(value, sides), kind, raw.astype(np.float32))
    np.testing.assert_allclose(found, [[[x1, y1, x1 + w, y1 + h]]], rtol=1e-6)


@pytest.mark.parametrize("kind", SIDES)
def test_distances(kind):
    raw = numbers()
    x, y, s = cells(0.5)
    left, top, right, bottom = np.moveaxis(raw, 2, 0)
    found = run(lambda value, sides, at: from_distances(value, at(0.5), sides), kind, raw)
    np.testing.assert_allclose(
        found, np.stack([x - left * s, y - top * s, x + right * s, y + bottom * s], -1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", SIDES)
@pytest.mark.parametrize(
    ("decode", "shift", "offset", "size"),
    [(from_offsets_and_exp, 0, lambda d, s: d * s, lambda d, s, side: np.exp(d) * s),
     (from_offsets_and_size, 0, lambda d, s: d * s, lambda d, s, side: d * s),
     (from_pixels, 0.5, lambda d, s: d, lambda d, s, side: d),
     (from_tanh_and_sigmoid, 0, lambda d, s: np.tanh(d) * s, lambda d, s, side: side / (1 + np.exp(-d)))],
)  # fmt: skip
def test_offsets_and_sizes(decode, shift, offset, size, kind):
    raw = numbers()
    x, y, s = cells(shift)
    dx, dy, dw, dh = np.moveaxis(raw, 2, 0)
    cx, cy = x + offset(dx, s), y + offset(dy, s)
    w, h = size(dw, s, WIDTH), size(dh, s, HEIGHT)
    found = run(lambda value, sides, at: decode(value, at(shift), sides), kind, raw)
    expected = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], -1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_bins_are_distributions():
    raw = numbers(columns=4 * 5)
    found = run(lambda value, *_: expected_distances(value), "fixed", raw)
    shares = np.exp(raw.reshape(2, COUNT, 4, 5).astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    np.testing.assert_allclose(found, (shares * np.arange(5)).sum(-1), rtol=1e-5)
