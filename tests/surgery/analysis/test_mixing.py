"""Where positions still act on each other, and that a layer behind which none do is no default of a detector."""

from __future__ import annotations

import json

import numpy as np
import pytest

from helpers.detectors import SIZE, one_table
from helpers.models import build, images, run
from onnx_xcam import instrument
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path, image_tensors
from onnx_xcam.surgery.analysis.mixing import mixed_behind
from onnx_xcam.surgery.analysis.prepare import prepare

PLAIN = "a = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(image, w)  b = Relu(a)  "


@pytest.mark.parametrize(
    ("behind", "mixed"),
    [
        ("y = Conv<kernel_shape=[1,1]>(b, v)", {"image"}),
        ("c = Conv<kernel_shape=[1,1]>(b, v)  y = Conv<pads=[1,1,1,1]>(c, u)", {"image", "a", "b", "c"}),
        ("y = AveragePool<kernel_shape=[2,2]>(b)", {"image", "a", "b"}),
        ("y = AveragePool<kernel_shape=[1,1]>(b)", {"image"}),
        ("y = GlobalAveragePool(b)", {"image", "a", "b"}),
        ("t = Transpose<perm=[0,2,3,1]>(b)  y = MatMul(t, m)", {"image"}),
        ("y = MatMul(q, b)", {"image", "a", "b"}),
        ("t = Transpose<perm=[0,1,3,2]>(b)  y = MatMul(b, t)", {"image", "a", "b", "t"}),
        ("c = Sigmoid(b)  y = Mul(b, c)", {"image"}),
        ("y = Resize<mode=\"linear\">(b, none, scales)", {"image", "a", "b"}),
    ],
)  # fmt: skip
def test_what_mixes_positions(behind, mixed):
    weights = {"w": (4, 3, 3, 3), "v": (4, 4, 1, 1), "u": (2, 4, 3, 3), "m": (4, 5), "q": (12, 12)}
    weights |= {"none": np.zeros(0, np.float32), "scales": np.array([1, 1, 2, 2], np.float32)}
    graph = prepare(build(PLAIN + behind, weights, outputs="float[N,?,?,?] y".replace("?", "h")))
    path = differentiable_path(graph, image_tensors(graph), ["y"])
    assert mixed_behind(path, ["y"]) == mixed


def test_a_layer_that_keeps_positions_apart_is_no_member_of_the_cut():
    model = one_table(coupled=True)
    stated = json.loads(next(p.value for p in instrument(model).metadata_props if p.key == "onnx_xcam"))
    assert [member["layer"] for member in stated["cut"]] == ["n4", "n8"], "m4 and m8 are read pixel by pixel"
    found = run(instrument(model, emit=("gradients",)), images(1, SIZE))
    assert max(np.count_nonzero(found[f"xcam_gradients{end}"].any((0, 1, 2))) for end in ("", "_1")) > 1


def test_kernels_behind_the_neck_leave_it_the_cut():
    stated = json.loads(next(p.value for p in instrument(one_table()).metadata_props if p.key == "onnx_xcam"))
    assert [member["layer"] for member in stated["cut"]] == ["n4", "n8"]
