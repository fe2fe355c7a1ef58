"""Quantised models: layers, scores and maps of the float model, straight-through gradients, outputs unchanged."""

from __future__ import annotations

import collections
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnxruntime import quantization
from onnxruntime.quantization import QuantType

import onnx_xcam
from helpers import ROOT
from helpers.models import GAP, C, build, images, outputs, run, saved, session
from helpers.quantised_twins import FLOAT, FORMATS, middle, quantised
from onnx_xcam import check, inspect, instrument
from onnx_xcam.errors import LayerError, UnsupportedOpError
from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery.rules import RULES
from onnx_xcam.verification.unchanged import VARIANTS


@pytest.fixture(params=FORMATS)
def twin(request, tmp_path):
    """FLOAT in each of the formats."""
    return quantised(request.param, tmp_path)


def ops(model: onnx.ModelProto, tmp_path) -> collections.Counter:
    """The operators of the forward pass after ONNX Runtime's optimisation."""
    nodes = saved(model, ort.GraphOptimizationLevel.ORT_ENABLE_ALL, tmp_path).graph.node
    return collections.Counter(node.op_type for node in nodes if not node.name.startswith("xcam"))


def test_the_outputs_stay_what_they_were(twin):
    x = images(3, seed=9)
    made = instrument(twin, layers="auto")
    assert outputs(made)[:1] == ["logits"]
    np.testing.assert_array_equal(run(made, x)["logits"], session(twin).run(["logits"], {"image": x})[0])


@pytest.mark.parametrize("layer", ["a", "auto"])
def test_the_map_is_that_of_the_float_model(twin, layer):
    x = images(3, seed=9)
    made = run(instrument(twin, layers=middle(twin) if layer == "a" else layer), x)
    other = run(instrument(FLOAT, layers=layer), x)
    assert made["xcam_map"].shape == other["xcam_map"].shape
    for mine, theirs in zip(made["xcam_map"], other["xcam_map"], strict=True):
        assert cosine(mine, theirs) > 0.98
    assert cosine(made["xcam_activations"], other["xcam_activations"]) > 0.98


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))


def test_the_default_layer_and_the_score_are_those_of_the_float_model(twin):
    mine, theirs = inspect(twin), inspect(FLOAT)
    assert mine.score == theirs.score == "logits"
    default = next(layer for layer in mine.layers if layer.default)
    assert default.shape == ["N", 6, 3, 3]
    assert default.op == "Add"
    assert not default.unsupported
    assert len({layer.name for layer in mine.layers}) == len(mine.layers)


@pytest.mark.parametrize("form", ["qdq", "qdq per tensor", "qoperator"])
def test_the_forward_pass_is_optimised_as_before(form, tmp_path):
    """Nothing is read that ONNX Runtime would have fused; only the integers may be wanted in another layout."""
    twin = quantised(form, tmp_path)
    before, after = ops(twin, tmp_path), ops(instrument(twin, layers=middle(twin)), tmp_path)
    after.pop("Transpose", None)
    before.pop("Transpose", None)
    assert before == after


# --- the gradient, spelled out ----------------------------------------------------------------------------------------

SCALES = {"s1": 0.02, "s2": 0.004, "s3": 0.01, "s4": 0.05, "sw": 0.01, "sf": 0.02}
ZEROS = {"z1": np.uint8(0), "z2": np.uint8(100), "z3": np.uint8(7), "z4": np.int8(-3), "zw": np.int8(0)}
BY_HAND = """
  x = Conv<pads=[1,1,1,1]>(image, w1)  a = Relu(x)
  q1 = QuantizeLinear(a, s1, z1)  d1 = DequantizeLinear(q1, s1, z1)
  w = DequantizeLinear(w3, sw, zw)
  c = Conv(d1, w)
  q2 = QuantizeLinear(c, s2, z2)  d2 = DequantizeLinear(q2, s2, z2)
  p = GlobalAveragePool(d2)
  q3 = QuantizeLinear(p, s3, z3)  d3 = DequantizeLinear(q3, s3, z3)
  flat = Flatten(d3)
  f = DequantizeLinear(fc, sf, zw)
  y = MatMul(flat, f)
  q4 = QuantizeLinear(y, s4, z4)  logits = DequantizeLinear(q4, s4, z4)
"""


def by_hand(body: str = BY_HAND, output: str = f"float[N,{C}] logits", **scales: float) -> onnx.ModelProto:
    random = np.random.default_rng(5)
    weights = {
        "w1": (3, 3, 3, 3),
        "w3": random.integers(-127, 127, (4, 3, 1, 1)).astype(np.int8),
        "fc": random.integers(-127, 127, (4, C)).astype(np.int8),
        **{name: np.float32(value) for name, value in {**SCALES, **scales}.items()},
        **{name: np.asarray(value) for name, value in ZEROS.items()},
    }
    weights = {name: np.asarray(value) if name != "w1" else value for name, value in weights.items()}
    return build(body, weights, outputs=output)


def test_the_gradient_is_the_straight_through_estimator():
    model, x = by_hand(s2=0.002, s3=0.006), images(2, seed=3) * 2
    found = run(instrument(model, layers=["a", "x"]), x, [list(range(C))])
    inner = session_values(model, ["q1", "q2", "q3", "q4"], x)
    saturated = {n: np.mean((q == info(q).min) | (q == info(q).max)) for n, q in inner.items()}
    assert all(0.01 < saturated[n] < 0.9 for n in ("q1", "q2", "q3")), "some pass, some are clipped"
    fc, w3 = (numpy_helper.to_array(t).astype(np.float64) for n in ("fc", "w3") for t in model.graph.initializer
              if t.name == n)  # fmt: skip
    passes = {n: ((q > info(q).min) & (q < info(q).max)).astype(np.float64) for n, q in inner.items()}
    g = (fc * SCALES["sf"]).T[:, None, :, None, None]  # of flat, [K,N,C,1,1]; the score's own clipping does not count
    g = g * passes["q3"] / 12**2
    g = g * passes["q2"]
    g = np.einsum("knmhw,mc->knchw", g, w3[:, :, 0, 0] * SCALES["sw"])
    np.testing.assert_allclose(found["xcam_gradients"], g.swapaxes(0, 1), rtol=1e-5, atol=1e-8)
    g = g * passes["q1"] * (inner["q1"] > 0)  # and the Relu
    np.testing.assert_allclose(found["xcam_gradients_1"], g.swapaxes(0, 1), rtol=1e-5, atol=1e-8)
    np.testing.assert_array_equal(found["xcam_activations"], inner["q1"].astype(np.float32) * np.float32(SCALES["s1"]))


def info(q: np.ndarray) -> np.iinfo:
    return np.iinfo(q.dtype)


def session_values(model: onnx.ModelProto, names: list[str], x: np.ndarray) -> dict[str, np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        copy.graph.output.add().name = name
    return dict(zip(names, session(copy).run(names, {"image": x}), strict=True))


def test_a_score_at_the_end_of_its_range_is_explained():
    model, x = by_hand(s4=0.0005), images(2, seed=3)
    found = run(instrument(model, layers="a", emit=["map", "gradients", "status"]), x)
    q4 = session_values(model, ["q4"], x)["q4"]
    assert np.isin(q4.max(1), [-128, 127]).all(), "the top class is clipped"
    assert np.abs(found["xcam_gradients"]).max(axis=(1, 2, 3, 4)).min() > 0
    np.testing.assert_array_equal(found["xcam_scores"][:, 0], found["logits"].max(1))


def test_a_layer_goes_by_any_of_its_names():
    model, x = by_hand(), images(1)
    first = run(instrument(model, layers="d2"), x)
    for name in ("c", "q2"):
        made = instrument(model, layers=name)
        assert Metadata.from_json(made.metadata_props[-1].value).layers == ("d2",)
        np.testing.assert_array_equal(run(made, x)["xcam_map"], first["xcam_map"])
    with pytest.raises(LayerError, match="named twice"):
        instrument(model, layers=["q2", "d2"])


def test_several_floats_of_one_integer_tensor_are_one_layer():
    """Some exporters dequantise anew for each reader."""
    pool = "p = GlobalAveragePool(d2)"
    same = BY_HAND.replace(pool, "t = Tanh(d2)  m = Add(d2, t)  p = GlobalAveragePool(m)")
    text = same.replace("t = Tanh(d2)", "d5 = DequantizeLinear(q2, s2, z2)  t = Tanh(d5)")
    x = images(2)
    one, two = (run(instrument(by_hand(body), layers="d2"), x) for body in (same, text))
    np.testing.assert_allclose(two["xcam_gradients"], one["xcam_gradients"], rtol=1e-6)
    assert two["xcam_gradients"].any()


def test_a_range_that_is_narrowed_among_the_integers():
    """As Brevitas and PyTorch write fewer bits, or -127 to 127: QuantizeLinear, Clip, DequantizeLinear."""
    text = BY_HAND.replace("d2 = DequantizeLinear(q2,", "n2 = Clip(q2, lo, hi)  d2 = DequantizeLinear(n2,")
    model, x = by_hand(text), images(2, seed=3) * 2
    for name, value in (("lo", 90), ("hi", 110)):
        model.graph.initializer.append(numpy_helper.from_array(np.uint8(value).reshape(()), name))
    found, plain = (run(instrument(m, layers="a"), x) for m in (model, by_hand()))
    q2 = session_values(model, ["q2"], x)["q2"]
    inside = (q2 > 90) & (q2 < 110)
    assert 0.05 < inside.mean() < 0.95
    assert np.count_nonzero(found["xcam_gradients"]) < np.count_nonzero(plain["xcam_gradients"])


def test_weights_that_are_quantised_in_the_graph():
    """As PyTorch's and TensorRT's quantisation-aware training export them."""
    text = BY_HAND.replace(
        "w = DequantizeLinear(w3, sw, zw)", "wq = QuantizeLinear(wf, sw, zw)  w = DequantizeLinear(wq, sw, zw)"
    )
    model, same, x = by_hand(text), by_hand(), images(2, seed=3)
    w3 = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "w3")
    model.graph.initializer.append(numpy_helper.from_array(w3.astype(np.float32) * np.float32(SCALES["sw"]), "wf"))
    found, expected = (run(instrument(m, layers="a"), x) for m in (model, same))
    np.testing.assert_allclose(found["xcam_gradients"], expected["xcam_gradients"], rtol=1e-5)


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "output", "score"),
    [
        ("", f"int8[N,{C}] q4", "q4"),
        ("e = Softmax(logits)  out = QuantizeLinear(e, s2, z1)", f"uint8[N,{C}] out", "logits"),
        ("e = Softmax(logits)  o = QuantizeLinear(e, s2, z1)  out = DequantizeLinear(o, s2, z1)", f"float[N,{C}] out",
         "logits"),
        ("out = com.microsoft.QLinearSoftmax<axis=-1, opset=13>(q4, s4, z4, s2, z4)", f"int8[N,{C}] out", "logits"),
        ("s = Unsqueeze(q4, two)  t = Squeeze(s, two)  out = DequantizeLinear(t, s4, z4)", f"float[N,{C}] out", "out"),
    ],
)  # fmt: skip
def test_the_score_is_found_behind_quantised_outputs(end, output, score):
    body = "two = Constant<value_ints=[2]>()" + BY_HAND + end
    model = by_hand(body.replace("logits = DequantizeLinear(q4, s4, z4)", "") if "q4]" in output else body, output)
    del model.graph.input[1:]
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    x = images(2, seed=3)
    expected = run(instrument(by_hand(), layers="d2"), x)
    made = instrument(model, layers="d2")
    found = run(made, x)
    assert Metadata.from_json(made.metadata_props[-1].value).score == score
    np.testing.assert_allclose(found["xcam_scores"], expected["xcam_scores"], rtol=1e-6)
    np.testing.assert_allclose(found["xcam_map"], expected["xcam_map"], rtol=1e-5)


def test_probabilities_are_read_off_integers():
    body = BY_HAND + "e = Softmax(logits)  out = QuantizeLinear(e, sp, zp)"
    model = by_hand(body, f"uint8[N,{C}] out", sp=1 / 200)
    model.graph.initializer.append(numpy_helper.from_array(np.uint8(9).reshape(()), "zp"))
    photo = (images(1)[0].transpose(1, 2, 0) * 60 + 128).clip(0, 255).astype(np.uint8)
    found = onnx_xcam.Explainer(model, preprocess="raw").explain(photo, classes=list(range(C)))
    out = session(model).run(["out"], {"image": photo.transpose(2, 0, 1)[None].astype(np.float32)})[0]
    np.testing.assert_allclose(found.probabilities, (out.astype(np.float64) - 9) / 200, rtol=1e-6)
    assert found.probabilities.sum() == pytest.approx(1, abs=0.02)


# --- dynamic quantisation ---------------------------------------------------------------------------------------------


def test_dynamic_quantisation(tmp_path):
    """The integers are scaled by the tensor's own extremes, which clips nothing: the gradient is the weights'."""
    onnx.save(FLOAT, tmp_path / "float.onnx")
    quantization.quantize_dynamic(tmp_path / "float.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QUInt8)
    twin = onnx.load(tmp_path / "int8.onnx")
    assert {"ConvInteger", "MatMulInteger"} <= {node.op_type for node in twin.graph.node}
    x = images(2, seed=9)
    made, other = run(instrument(twin, layers="a"), x), run(instrument(FLOAT, layers="a"), x)
    np.testing.assert_array_equal(made["logits"], session(twin).run(["logits"], {"image": x})[0])
    assert cosine(made["xcam_map"], other["xcam_map"]) > 0.98
    assert cosine(made["xcam_gradients"], other["xcam_gradients"]) > 0.98
    assert ops(twin, tmp_path) == ops(instrument(twin, layers="a"), tmp_path)
    assert check(twin, layers="a").passed


# --- weights of few bits ----------------------------------------------------------------------------------------------

FEW = """
  x = Conv<pads=[1,1,1,1]>(image, w1)  a = Relu(x)
  p = GlobalAveragePool(a)  flat = Flatten(p)  f = DequantizeLinear<axis=1{}>(fc, sf{})  logits = MatMul(flat, f)
"""


@pytest.mark.parametrize("kind", [onnx.TensorProto.INT4, onnx.TensorProto.UINT4, onnx.TensorProto.INT16])
@pytest.mark.parametrize("blocked", [False, True])
def test_weights_of_few_bits(kind, blocked):
    random = np.random.default_rng(0)
    values, scales = random.integers(0, 7, (8, C)), np.linspace(0.1, 0.2, C).astype(np.float32)
    model = build(
        FEW.format(", block_size=4, axis=0" if blocked else "", "").replace("axis=1, block", "block"),
        {"w1": (8, 3, 3, 3), "sf": np.stack([scales, scales * 2]) if blocked else scales},
        opset=21,
        ir=10,
    )
    model.graph.initializer.append(onnx.helper.make_tensor("fc", kind, (8, C), values.flatten().tolist()))
    found = run(instrument(model, layers="a"), images(2), [list(range(C))])
    steps = np.repeat(np.stack([scales, scales * 2]), 4, axis=0) if blocked else scales
    expected = (values * steps).T / 12**2
    np.testing.assert_allclose(found["xcam_gradients"][0, :, :, 0, 0], expected, rtol=1e-5)


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_proves_quantised_models(twin):
    report = check(twin, layers=middle(twin))
    assert report.passed, report.text()
    assert report.layers[0].finite_difference is None
    assert len(report.nodes) > 5


@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear", "Conv"])
@pytest.mark.parametrize("form", ["qdq", "qoperator"])
def test_check_finds_a_wrong_rule(op, form, tmp_path, monkeypatch):
    twin = quantised(form, tmp_path)
    rule = RULES[op]

    def wrong(node, gy):
        result = rule.function(node, gy)
        return (
            result * 1.01 if not isinstance(result, (list, tuple)) else [g if g is None else g * 1.01 for g in result]
        )

    monkeypatch.setitem(RULES, op, replace(rule, function=wrong))
    report = check(twin, layers=middle(twin))
    assert not report.passed
    assert {node.op for node in report.nodes if not node.passed} == {op}


def test_outputs_may_move_as_far_as_they_do_by_themselves(twin):
    (output,) = check(twin).outputs
    assert (output.name, output.passed, output.pictures) == ("logits", True, 1 + len(VARIANTS))
    assert 0 <= output.difference < 0.2


# --- what is refused --------------------------------------------------------------------------------------------------


def test_float8_is_refused_by_name():
    text = "x = Conv(image, w)  a = Tanh(x)  q = QuantizeLinear(a, s, z)  d = DequantizeLinear(q, s, z)  "
    text += GAP.replace("(a)", "(d)")
    model = build(text, {"w": (4, 3, 3, 3), "s": np.array(0.1, np.float32), "fc": (C, 4), "fb": (C,)}, opset=21, ir=10)
    model.graph.initializer.append(onnx.helper.make_tensor("z", onnx.TensorProto.FLOAT8E4M3FN, (), [0.0]))
    with pytest.raises(UnsupportedOpError, match=r"QuantizeLinear.*float8"):
        instrument(model, layers="x")


def test_of_stored_integers_only_the_classes_asked_for_become_floats():
    """The classifier's weights: a thousand rows of floats would take four times the memory of the file."""
    emitted = instrument(ROOT / "sample_models" / "efficientnet_lite0_int8.onnx", emit=("map",))
    weights = next(t for t in emitted.graph.initializer if list(t.dims) == [1000, 1280])
    readers = [node.op_type for node in emitted.graph.node if weights.name in node.input and "xcam" in node.name]
    assert readers == ["Gather"]


@pytest.mark.parametrize(
    "scale", [np.array(0.03, np.float32), np.linspace(0.01, 0.05, C, dtype=np.float32)], ids=["one", "rows"]
)
@pytest.mark.parametrize("zero_point", [True, False])
@pytest.mark.parametrize("gemm", ["Gemm<transB=1, alpha=3.0>(flat, fc)", "MatMul(flat, turned)"])
def test_the_classifiers_rows_have_their_scale_once(scale, zero_point, gemm):
    random = np.random.default_rng(0)
    kind = np.int8 if zero_point else np.uint8  # ONNX Runtime 1.25 takes int8 without a zero point for uint8
    values = random.integers(0, 100, (C, 4)).astype(kind)
    zero = np.asarray(random.integers(-5, 5, scale.shape), np.int8)
    body = f"""
        a = Conv(image, w1)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)
        fc = DequantizeLinear<axis=0>(q, scale{", zero" if zero_point else ""})
        turned = Transpose<perm=[1,0]>(fc)  logits = {gemm}
    """
    model = build(body, {"w1": (4, 3, 1, 1), "q": values, "scale": scale, "zero": zero}, opset=13)
    found = run(instrument(model, layers="a"), images(2), [list(range(C))])
    rows = (values.astype(float) - (zero.reshape(-1, 1) if zero_point else 0)) * scale.reshape(-1, 1)
    expected = rows * (3 if "alpha" in gemm else 1) / 12**2
    np.testing.assert_allclose(found["xcam_gradients"][0, :, :, 0, 0], expected, rtol=1e-5)
