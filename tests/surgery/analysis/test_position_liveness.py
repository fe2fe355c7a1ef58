"""Which positions of a layer the score uses."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.models import GAP, GAP_WEIGHTS, build
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.targets.layers import Layers

WEIGHTS = {"w": (4, 3, 3, 3), "s": (4,), "b": (4,), "m": (4,), "v": np.ones(4, np.float32), **GAP_WEIGHTS}
FIRST_ROW = "z = Constant<value = int64[1] {0}>() o = Constant<value = int64[1] {1}>() "
FIRST_ROW += "h = Constant<value = int64[1] {2}>() a = Slice(n, z, o, h) "


@pytest.mark.parametrize(
    ("normalisation", "wholly"),
    [
        ("n = BatchNormalization(c, s, b, m, v)", False),
        ("n, r, q = BatchNormalization<training_mode = 1>(c, s, b, m, v)", True),
        ("n = Softmax<axis = 1>(c)", False),
        ("n = Softmax<axis = 2>(c)", True),
    ],
)
def test_a_row_that_is_cut_off_is_used_of_what_keeps_positions_apart(normalisation, wholly):
    """Statistics of the run, and a softmax over height, mix the positions."""
    body = f"c = Conv<pads = [1,1,1,1]>(image, w) {normalisation} {FIRST_ROW} {GAP}"
    used = Layers(prepare(build(body, WEIGHTS)), "logits").used.get("c")
    assert (used is None) is wholly
