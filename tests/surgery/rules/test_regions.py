"""Regions of feature maps: those without a gradient are left out, and their boxes are held constant."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.gradients.cases_regions import BOXES, align
from helpers.gradients.checker import run
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.autodiff.vjp_model import vjp_model
from onnx_xcam.surgery.axes.axes import role_of
from onnx_xcam.surgery.axes.layouts import axis_roles, layout_of

INPUTS = "float[N,3,6,5] x, float[R,4] b, int64[R] i"
X = np.random.default_rng(0).normal(size=(2, 3, 6, 5)).astype(np.float32)
FEEDS = {"x": X, "b": BOXES.astype(np.float32), "i": np.array([1, 0, 1, 0, 1, 0])}


def model(body, opset=16, inputs=INPUTS):
    text = f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => (float[A,B,C,D] y) {{ {body} }}'
    return onnx.parser.parse_model(text)


def gradient(body, gy, feeds=FEEDS, opset=16):
    return run(vjp_model(model(body, opset), ["x"]), {**feeds, "xcam_gy_0": gy.astype(np.float32)})[0]


@pytest.mark.parametrize("opset", [11, 16])
@pytest.mark.parametrize("mode", ["avg", "max"])
def test_a_gradient_of_some_regions_is_that_of_all_with_zeros(mode, opset):
    """One seed for each region at a time, and then seeds of several: the sum of the former is the latter."""
    body, count = align(mode, 0), len(BOXES)
    gy = np.random.default_rng(1).normal(size=(1, count, 3, 3, 2))
    alone = gy * np.eye(count)[:, :, None, None, None]
    each = gradient(body, alone, opset=opset)
    assert (np.abs(each).max((1, 2, 3, 4)) > 0).sum() >= count - 2, "regions without an extent have no gradient"
    np.testing.assert_allclose(each.sum(0), gradient(body, gy, opset=opset)[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_region_has_a_gradient(mode):
    assert not gradient(align(mode, 2), np.zeros((2, len(BOXES), 3, 3, 2))).any()
    nothing = {"x": X, "b": np.zeros((0, 4), np.float32), "i": np.zeros(0, np.int64)}
    got = gradient(align(mode, 0), np.zeros((2, 0, 3, 3, 2)), nothing)
    assert got.shape == (2, *X.shape) and not got.any()


def test_a_gradient_that_is_no_number_is_not_lost():
    gy = np.zeros((1, len(BOXES), 3, 3, 2))
    gy[0, 0] = np.nan
    assert np.isnan(gradient(align("avg", 2), gy)).any()


def test_boxes_are_held_constant_whatever_they_depend_on():
    moved = "m = ReduceMean<keepdims = 0>(x) t = Add(m, b) " + align("avg", 2).replace("x, b,", "x, t,")
    gy = np.random.default_rng(1).normal(size=(1, len(BOXES), 3, 3, 2))
    held = gradient(align("avg", 2), gy, {**FEEDS, "b": FEEDS["b"] + X.mean()})
    np.testing.assert_allclose(gradient(moved, gy), held, rtol=1e-5, atol=1e-6)


def test_regions_are_no_images():
    """Neither what is pooled, nor what convolutions make of it, is a layer or has the images as its first axis."""
    body = align("avg", 2) + " w = ConstantOfShape<value = float {0.1}>(s) z = Conv<pads = [1, 1, 1, 1]>(y, w)"
    text = "s = Constant<value = int64[4] {4, 3, 3, 3}>() v = Constant<value = int64[4] {3, 3, 1, 1}>() "
    text += "k = ConstantOfShape<value = float {0.1}>(v) f = Conv(x, k) " + body.replace("(x, b", "(f, b")
    roles = axis_roles(prepare(model(text)))
    assert layout_of(roles["f"]) == "NCHW"
    for name in "yz":
        assert role_of(roles[name][0]) == "R" and role_of(roles[name][1]) == "C"
        assert layout_of(roles[name]) is None
