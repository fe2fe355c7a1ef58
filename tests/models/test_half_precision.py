"""Half precision: the maps are computed in float32, the model's own outputs stay as they were."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from helpers.half_precision import halved
from helpers.lowering.single import CASES, Case
from helpers.models import build, cnn, images, run
from onnx_xcam import XcamError, check, inspect, instrument
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.lowering import lowered

CAM = ("map", "activations", "gradients", "heatmap", "status")


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


MODELS = {
    "gap": cnn("gap"),
    "dense": cnn("dense"),
    "sigmoid": cnn("dense", act="s = Sigmoid(c2)  a = Mul(c2, s)"),
    "softmax": cnn("dense", end="probabilities = Softmax<axis=-1>(logits)", output="float[N,5] probabilities"),
    "opset 11": cnn("dense", opset=11),
}


@pytest.mark.parametrize("keep_io", [False, True], ids=["whole", "float32 outside"])
@pytest.mark.parametrize("name", MODELS)
def test_maps_are_those_of_the_float32_model(name: str, keep_io: bool):
    model = MODELS[name]
    half = halved(model, keep_io=keep_io)
    explained = instrument(half, layers="a", emit=CAM)
    image = images().astype(np.float32 if keep_io else np.float16)
    ours, wanted = run(explained, image), run(instrument(model, layers="a", emit=CAM), images())
    plain = run(half, image)
    for output, value in plain.items():
        np.testing.assert_array_equal(ours[output], value)
    for output in ("xcam_map", "xcam_activations", "xcam_gradients", "xcam_heatmap"):
        assert ours[output].dtype == np.float32
        assert cosine(ours[output], wanted[output]) > 0.9999
        assert np.abs(ours[output] - wanted[output]).max() < 0.01 * np.abs(wanted[output]).max()
    assert (ours["xcam_status"] == 0).all()


def test_gradients_that_half_precision_cannot_hold_are_there():
    """1e-9 is 0 in float16."""
    end = "scaled = Mul(flat, small)  logits = Gemm<transB=1>(scaled, fc, fb)"
    head = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  " + end
    small = build_with(head, {"small": np.array(2e-7, np.float32), "fc": (5, 4), "fb": (5,)})
    ours = run(instrument(halved(small), layers="a", emit=CAM), images().astype(np.float16))
    wanted = run(instrument(small, layers="a", emit=CAM), images())
    assert 0 < np.abs(wanted["xcam_gradients"]).max() < 1e-8
    assert cosine(ours["xcam_gradients"], wanted["xcam_gradients"]) > 0.999
    assert cosine(ours["xcam_map"], wanted["xcam_map"]) > 0.999
    size = np.abs(ours["xcam_gradients"]).max() / np.abs(wanted["xcam_gradients"]).max()
    assert size == pytest.approx(1, rel=0.15), "2e-7 itself is rounded"


def build_with(head: str, weights: dict[str, object]) -> onnx.ModelProto:
    from helpers.models import TRUNK, TRUNK_WEIGHTS

    return build(TRUNK + "a = Relu(c2) " + head, {**TRUNK_WEIGHTS, **weights})  # type: ignore[dict-item]


def test_check_proves_a_half_precision_model():
    report = check(halved(MODELS["dense"]), layers="a")
    assert report.passed, report.text()


def test_a_note_without_shape_does_not_hide_the_shape_of_an_output():
    graph = prepare(halved(cnn("gap"), keep_io=True))
    assert graph.shape("logits") == ("N", 5)


# --- attention --------------------------------------------------------------------------------------------------------

ATTENTION = """
  c = Conv<strides=[6,6]>(image, w)
  grid = Reshape(c, places)  tokens = Transpose<perm=[2,0,1]>(grid)
  q0 = MatMul(tokens, wq)  k0 = MatMul(tokens, wk)  v0 = MatMul(tokens, wv)
  q1 = Reshape(q0, heads)  k1 = Reshape(k0, heads)  v1 = Reshape(v0, heads)
  q2 = Transpose<perm=[1,0,2]>(q1)  k2 = Transpose<perm=[1,0,2]>(k1)  v2 = Transpose<perm=[1,0,2]>(v1)
  q = Reshape(q2, four)  k = Reshape(k2, four)  v = Reshape(v2, four)
  kt = Transpose<perm=[0,1,3,2]>(k)  s = MatMul(q, kt)  p = Softmax<axis=-1>(s)
  y4 = MatMul(p, v)  y3 = Transpose<perm=[2,0,1,3]>(y4)  y2 = Reshape(y3, flat)  y = MatMul(y2, wo)
  first = Gather<axis=0>(y, zero)  logits = MatMul(first, fc)
"""
"""Token-first attention, as torchvision's ViT has it: transposes that can be moved through a Reshape."""


def attention() -> onnx.ModelProto:
    shapes: dict[str, list[int]] = {"places": [1, 16, 4], "heads": [4, 2, 8], "four": [1, 2, 4, 8], "flat": [4, 16]}
    weights: dict[str, object] = {name: np.array(value, np.int64) for name, value in shapes.items()}
    weights |= dict.fromkeys(("wq", "wk", "wv", "wo"), (16, 16))
    weights |= {"w": (16, 3, 6, 6), "fc": (16, 5), "zero": np.array([0], np.int64)}
    return build(ATTENTION, weights, inputs="float[1,3,12,12] image", outputs="float[1,5] logits")  # type: ignore


_LOAD = """
import sys, onnxruntime
options = onnxruntime.SessionOptions()
options.log_severity_level = 4
onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
"""


def test_attention_in_half_precision_is_loaded(tmp_path: Path):
    """ONNX Runtime 1.32 crashed on Transpose, Cast and MatMul of unequal ranks; so in a process of its own."""
    path = tmp_path / "explained.onnx"
    explained = instrument(halved(attention()), layers="c", emit=("map", "gradients"))
    onnx.save(explained, path)
    done = subprocess.run([sys.executable, "-c", _LOAD, str(path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-500:]
    ours = run(explained, images(1).astype(np.float16))
    wanted = run(instrument(attention(), layers="c", emit=("map", "gradients")), images(1))
    assert cosine(ours["xcam_gradients"], wanted["xcam_gradients"]) > 0.999


# --- ONNX Runtime's own operators -------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_lowered_nodes_are_of_one_type(case: Case):
    """The constants of a lowering are of the type of what they meet."""
    for opset in case.opsets:
        half = halved(case.model(opset))
        standard = lowered(half).model
        assert not [node.op_type for node in standard.graph.node if node.domain]
        inferred = onnx.shape_inference.infer_shapes(standard, check_type=True, strict_mode=True)
        kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.graph.value_info}
        made = [kinds.get(name, TensorProto.FLOAT16) for node in inferred.graph.node for name in node.output]
        assert TensorProto.FLOAT not in made


# --- types that are only stored ---------------------------------------------------------------------------------------

HEAD = "p = GlobalAveragePool(a)  f = Flatten(p)  logits = Gemm<transB=1>(f, fc)"


def stored(body: str, weights: dict[str, object]) -> onnx.ModelProto:
    return build(f"{body} {HEAD}", {"fc": (5, 4), **weights}, opset=19)  # type: ignore[dict-item]


@pytest.mark.parametrize("how", [inspect, instrument, check], ids=["inspect", "instrument", "check"])
def test_what_computes_in_bfloat16_is_refused(how):
    model = stored(
        "c = Conv<pads=[1,1,1,1]>(image, w)  b = Cast<to=16>(c)  r = Relu(b)  a = Cast<to=1>(r)", {"w": (4, 3, 3, 3)}
    )
    with pytest.raises(XcamError, match=r"computes in bfloat16 \(node 'r', Relu\).*convert it to float16 or float32"):
        how(model)


def test_weights_that_are_stored_in_bfloat16_are_taken():
    import ml_dtypes

    weights = np.random.default_rng(0).normal(size=(4, 3, 3, 3)).astype(ml_dtypes.bfloat16)
    model = stored("w = Cast<to=1>(wb)  c = Conv<pads=[1,1,1,1]>(image, w)  a = Relu(c)", {"wb": weights})
    explained = run(instrument(model), images())
    assert np.abs(explained["xcam_map"]).max() > 0
    np.testing.assert_array_equal(explained["logits"], run(model, images())["logits"])


def test_float8_quantisation_before_the_layer_is_taken():
    """Behind a Softplus: ONNX Runtime 1.32 drops a Relu before a QuantizeLinear to float8."""
    import ml_dtypes

    random = np.random.default_rng(0)
    weights = {
        "s": np.array(0.05, np.float32),
        "z": np.array(0, ml_dtypes.float8_e4m3fn),
        "wq": (random.normal(size=(4, 3, 3, 3)) / 0.05).astype(ml_dtypes.float8_e4m3fn),
    }
    body = (
        "q = QuantizeLinear(image, s, z)  d = DequantizeLinear(q, s, z)  w = DequantizeLinear(wq, s, z)  "
        "c = Conv<pads=[1,1,1,1]>(d, w)  r = Softplus(c)  rq = QuantizeLinear(r, s, z)  a = DequantizeLinear(rq, s, z)"
    )
    model = stored(body, weights)
    explained = run(instrument(model), images(), [[2]])
    np.testing.assert_allclose(explained["logits"], run(model, images())["logits"], atol=1e-6)
    floats = weights["wq"].astype(np.float32) * np.float32(0.05)
    plain = stored("c = Conv<pads=[1,1,1,1]>(image, w)  a = Softplus(c)", {"w": floats})
    wanted = run(instrument(plain), images(), [[2]])
    assert cosine(explained["xcam_gradients"], wanted["xcam_gradients"]) > 0.999
    assert cosine(explained["xcam_activations"], wanted["xcam_activations"]) > 0.99
