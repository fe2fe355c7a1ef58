"""Scores of candidates that are differentiated in windows: the same results as of the whole table, for every head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from helpers import detector_forms as forms
from helpers.detector_forms import per_level
from helpers.models import build, session
from onnx_xcam.surgery.autodiff.local.plan import Plan
from onnx_xcam.surgery.instrument import instrument
from onnx_xcam.surgery.tail import tail

SIDE, STRIDES, CLASSES = 32, (4, 8), 3
CHANNELS = {4: 6, 8: 5}
CELLS = {stride: (SIDE // stride) ** 2 for stride in STRIDES}

TRUNK = """
  c1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(image, w1, v1)
  r1 = Sigmoid(c1)
  c2 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(r1, w2, v2)
  n4 = Tanh(c2)
  c3 = Conv<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(n4, w3, v3)
  n8 = Tanh(c3)
"""
HEADS = {
    "two convolutions": "s# = Conv<pads=[1,1,1,1]>(n#, a33_#) t# = Tanh(s#) u# = Conv<pads=[1,1,1,1]>(t#, b33_#) "
    "h# = Sigmoid(u#)",
    "dilated, by channel": "s# = Conv<pads=[0,2,0,2], dilations=[1,2], group=GROUP>(n#, d13_#) h# = Tanh(s#)",
    "an even kernel, SAME_UPPER": 's# = Conv<auto_pad="SAME_UPPER">(n#, a24_#) h# = Tanh(s#)',
    "an even kernel, SAME_LOWER": 's# = Conv<auto_pad="SAME_LOWER">(n#, a24_#) h# = Tanh(s#)',
    "pads on one side": "s# = Conv<pads=[0,1,1,2]>(n#, a24_#) h# = Tanh(s#)",
    "a sum around a convolution": "s# = Conv<pads=[1,1,1,1]>(n#, a33_#) t# = Mul(s#, n#) h# = Add(t#, n#)",
    "swish": "s# = Conv<pads=[1,1,1,1]>(n#, a33_#) q# = Sigmoid(s#) h# = Mul(s#, q#)",
    "no window": "h# = Softplus(n#)",
    "batch normalisation": "s# = Conv<pads=[1,1,1,1]>(n#, a33_#) z# = BatchNormalization(s#, g_#, v_#, v_#, g_#) "
    "h# = Relu(z#)",
}
"""The nodes between a level's map n# and the last map h#, of as many channels."""
TABLES = {
    "rows, then anchors": "l# = Conv(h#, out_#) r# = Reshape(l#, split_#) m# = Transpose<perm=[0,1,3,4,2]>(r#) "
    "f# = Reshape(m#, flat)",
    "anchors of a cell": "l# = Conv(h#, out_#) m# = Transpose<perm=[0,2,3,1]>(l#) f# = Reshape(m#, flat)",
    "columns last": "l# = Conv(h#, out_#) r# = Reshape(l#, split_#) m# = Transpose<perm=[0,3,4,1,2]>(r#) "
    "k# = Reshape(m#, by_cell) f# = Reshape(k#, flat)",
    "a grid added": "l# = Conv(h#, out_#) r# = Reshape(l#, split_#) p# = Add(r#, grid_#) "
    "m# = Transpose<perm=[0,1,3,4,2]>(p#) f# = Reshape(m#, flat)",
    "objectness": "l# = Conv(h#, out_#) m# = Transpose<perm=[0,2,3,1]>(l#) e# = Reshape(m#, flat) "
    "j# = ReduceMax<axes=[2], keepdims=1>(e#) o# = Softplus(j#) f# = Sub(e#, o#)",
}
"""The nodes between the last map h# of a level and its rows f# `[N, 2 cells, C]`: two anchors in each cell."""
REFUSED = {
    "a mean over the picture": "s# = GlobalAveragePool(n#) q# = Sigmoid(s#) h# = Mul(n#, q#)",
    "instance normalisation": "h# = InstanceNormalization(n#, g_#, v_#)",
    "a mirrored picture": "s# = Slice(n#, last, before, three, back) h# = Add(s#, n#)",
    "a softmax over a row": "h# = Softmax<axis=3>(n#)",
    "a larger picture": "s# = Conv<pads=[2,2,2,2]>(n#, a33_#) t# = MaxPool<kernel_shape=[3,3]>(s#) h# = Tanh(t#)",
}
"""Heads that mix positions far apart, or in a way that windows do not have."""


def detector(head: str, table: str = TABLES["anchors of a cell"], seed: int = 1) -> onnx.ModelProto:
    """A detector with two anchors in each cell of two levels."""
    random = np.random.default_rng(seed)
    weights: dict[str, Any] = {
        "w1": (4, 3, 3, 3), "v1": (4,), "w2": (6, 4, 3, 3), "v2": (6,), "w3": (5, 6, 3, 3), "v3": (5,),
    }  # fmt: skip
    points, strides = [], []
    for stride, c in CHANNELS.items():
        side = SIDE // stride
        weights |= {
            f"a33_{stride}": (c, c, 3, 3), f"b33_{stride}": (c, c, 3, 3), f"a24_{stride}": (c, c, 2, 4),
            f"d13_{stride}": (c, 1, 1, 3), f"out_{stride}": random.normal(0, 2, (2 * CLASSES, c, 1, 1)),
            f"box_{stride}": (4 * 2, c, 1, 1), f"split_{stride}": np.array([0, 2, CLASSES, side, side]),
            f"grid_{stride}": random.normal(0, 1, (1, 1, side, side)),
            f"g_{stride}": random.uniform(0.5, 2, c), f"v_{stride}": (c,),
        }  # fmt: skip
        places = (np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2) + 0.5) * stride
        points.append(np.repeat(places, 2, 0))
        strides.append(np.full((2 * side * side, 1), stride))
    weights |= {"points": np.concatenate(points)[None], "strides": np.concatenate(strides)[None] * 1.0}
    weights |= {"flat": np.array([0, -1, CLASSES]), "by_cell": np.array([0, -1, 2, CLASSES])}
    weights |= {"last": np.array([-1]), "before": np.array([-1000]), "three": np.array([3]), "back": np.array([-1])}
    weights["to_boxes"] = np.array([0, -1, 4])
    text = "".join(per_level(head).replace("GROUP", str(CHANNELS[4]), 1).replace("GROUP", str(CHANNELS[8])))
    text = TRUNK + text + per_level(table + " bl# = Conv(n#, box_#) bm# = Transpose<perm=[0,2,3,1]>(bl#) "
                                    "bf# = Reshape(bm#, to_boxes)\n")  # fmt: skip
    text += """
      logits = Concat<axis=1>(f4, f8) scores = Sigmoid(logits)
      raw = Concat<axis=1>(bf4, bf8) d0 = Softplus(raw) d = Mul(d0, strides)
      lt, rb = Split<axis=2>(d) x1y1 = Sub(points, lt) x2y2 = Add(points, rb) boxes = Concat<axis=2>(x1y1, x2y2)
    """
    count = 2 * sum(CELLS.values())
    arrays = {k: v if not isinstance(v, np.ndarray) or v.dtype.kind == "i" else v.astype(np.float32)
              for k, v in weights.items()}  # fmt: skip
    return build(
        text,
        arrays,
        inputs=f"float[N,3,{SIDE},{SIDE}] image",
        outputs=f"float[N,{count},{CLASSES}] scores, float[N,{count},4] boxes",
        seed=seed,
    )


def recorded_plans(monkeypatch: pytest.MonkeyPatch) -> list[Plan | None]:
    """The plans that are made from now on."""
    plans: list[Plan | None] = []
    real = tail.planned

    def recorded(*args: Any) -> Plan | None:
        plans.append(real(*args))
        return plans[-1]

    monkeypatch.setattr(tail, "planned", recorded)
    return plans


def compared(
    model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> None:
    """Check that the windows give what the whole pictures give."""
    results = []
    for in_windows in (True, False):
        with monkeypatch.context() as patch:
            plans = recorded_plans(patch)
            if not in_windows:
                patch.setattr(tail, "planned", lambda *_: None)
            made = instrument(model, **options)
            assert not in_windows or plans[0] is not None
        run = session(made)
        results.append(dict(zip([out.name for out in run.get_outputs()], run.run(None, dict(feeds)), strict=True)))
    local, dense = results
    assert local.keys() == dense.keys()
    assert np.abs(dense["xcam_map"]).max() > 0
    for name, wanted in dense.items():
        assert local[name].shape == wanted.shape
        assert local[name].dtype == wanted.dtype
        scale = np.abs(wanted).max() if wanted.dtype.kind == "f" else 0
        np.testing.assert_allclose(local[name], wanted, rtol=0, atol=1e-5 * scale, err_msg=name)


def pictures(n: int, seed: int = 0) -> np.ndarray:
    """Random pictures."""
    return np.random.default_rng(seed).normal(0, 1, (n, 3, SIDE, SIDE)).astype(np.float32)


EVERY = ("map", "activations", "gradients", "status", "heatmap")


@pytest.mark.parametrize("head", HEADS)
def test_every_candidate_has_the_gradient_and_the_map_of_the_whole_table(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = np.arange(2 * sum(CELLS.values()), dtype=np.int64)[None]
    compared(detector(HEADS[head]), {"image": pictures(1), "xcam_object": every}, monkeypatch, emit=EVERY)


@pytest.mark.parametrize("table", TABLES)
def test_rows_are_found_in_every_order_of_the_table(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector(HEADS["swish"], TABLES[table])
    every = np.arange(2 * sum(CELLS.values()), dtype=np.int64)[None]
    compared(model, {"image": pictures(1), "xcam_object": every}, monkeypatch, emit=EVERY)


@pytest.mark.parametrize("method", ["local-xgrad-cam", "xgrad-cam", "grad-cam++", "hires-cam", "layer-cam"])
def test_every_method_and_batches_with_different_numbers_of_objects(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(3)
    images[1] *= 0  # fewer objects
    asked = np.array([[-1, -2, -3, -50, 0, 7, 127, 128, 159]])
    feeds = {"image": images, "xcam_object": asked, "xcam_class": np.array([[-1, 2, -1, -1, 0, 1, 2, -1, -1]])}
    compared(detector(HEADS["two convolutions"]), feeds, monkeypatch, emit=EVERY, method=method, conf=0.6)


def test_signed_maps_contrasts_and_fixed_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    model = detector(HEADS["swish"])
    feeds = {"image": pictures(2), "xcam_object": np.array([[-1, 5]]), "xcam_against": np.array([[1]])}
    compared(model, feeds, monkeypatch, emit=("map", "status"), relu=False, contrast=True)
    fixed = {"class_input": "fixed", "objects": [-1, 130, 7], "classes": [-1, 2, 0]}
    compared(model, {"image": pictures(2)}, monkeypatch, emit=("map", "status"), **fixed)


def test_a_picture_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    text = per_level("so# = Sigmoid(obj#) sc# = Sigmoid(cls#) all# = Concat<axis=1>(box#, so#, sc#)\n")
    text += forms.flat("all", 5 + CLASSES) + "output = Transpose<perm=[0,2,1]>(all)"
    layers = {"box": 4, "obj": 1, "cls": CLASSES}
    outputs = {"output": ("N", "Q", 5 + CLASSES)}
    model = forms.detector(text, layers, outputs, more=forms.to(5 + CLASSES), size="S")
    image = np.random.default_rng(2).normal(0, 1, (2, 3, 40, 56)).astype(np.float32)
    feeds = {"image": image, "xcam_object": np.arange(10 * 14 + 5 * 7)[None]}
    compared(model, feeds, monkeypatch, emit=EVERY)


@pytest.mark.parametrize("head", REFUSED)
def test_what_mixes_positions_is_differentiated_as_a_whole(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plans = recorded_plans(monkeypatch)
    instrument(detector(REFUSED[head]), emit=("map",))
    assert plans == [None]


def test_no_object_at_all_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = recorded_plans(monkeypatch)
    made = instrument(detector(HEADS["swish"]), emit=EVERY)
    assert plans[0] is not None
    run = session(made)
    results = run.run(None, {"image": pictures(2), "xcam_object": np.zeros((1, 0), np.int64)})
    found = dict(zip([out.name for out in run.get_outputs()], results, strict=True))
    assert found["xcam_map"].shape == (2, 0, 8, 8)
    assert found["xcam_status"].shape == found["xcam_objects"].shape == (2, 0)
    assert found["xcam_gradients"].shape == (2, 0, 6, 8, 8)
