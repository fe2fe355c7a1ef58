"""Quantised models as other tools write them than ONNX Runtime's quantiser: tf2onnx, PyTorch, Brevitas and others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, cnn, images, run, session
from onnx_xcam import check, inspect, instrument
from onnx_xcam.metadata import LABELS_KEY, Metadata
from onnx_xcam.surgery.lowering.order import in_order

INT8 = {"z": np.array(0, np.int8), "s": np.array(0.02, np.float32), "sw": np.array(0.01, np.float32)}


def integers(*shape: int, kind: type = np.int8) -> np.ndarray:
    """Random weights."""
    return np.random.default_rng(len(shape)).integers(-90, 90, shape).astype(kind)


def proved(model: onnx.ModelProto, layers: str = "auto") -> None:
    """Check a model, which must not be told to fail."""
    report = check(model, layers=layers)
    assert report.passed, report.text()


# --- tf2onnx --------------------------------------------------------------------------------------------------------


def dynamic_range() -> onnx.ModelProto:
    """Dynamic range quantisation, as tf2onnx spells it: a float is quantised by its own extremes."""
    body = f"""{TRUNK} a = Relu(c2)  flat = Flatten(a)
      q, qs, qz = DynamicQuantizeLinear(flat)  d = DequantizeLinear(q, qs, qz)
      w = DequantizeLinear(fc, sw, z)  logits = MatMul(d, w)"""
    return build(body, {**TRUNK_WEIGHTS, **INT8, "fc": integers(4 * 6 * 6, C)})


def test_a_scale_that_depends_on_the_values_is_checked_as_a_constant():
    proved(dynamic_range())


# --- PyTorch --------------------------------------------------------------------------------------------------------


def with_casts() -> onnx.ModelProto:
    """torch.ao through TorchScript: a Cast to its own type behind each quantiser, and for each reader a Cast, a
    DequantizeLinear, and Constant nodes, or an Identity of another's, for scale and zero point."""
    body = f"""{TRUNK} b = Relu(c2)  sa = Constant<value = float {{0.02}}>()  za = Constant<value = uint8 {{0}}>()
      q = QuantizeLinear(b, sa, za)
      q1 = Cast<to = 2>(q)  s1 = Constant<value = float {{0.02}}>()  z1 = Constant<value = uint8 {{0}}>()
      d1 = DequantizeLinear(q1, s1, z1)
      q2 = Cast<to = 2>(q)  s2 = Constant<value = float {{0.02}}>()  z2 = Constant<value = uint8 {{0}}>()
      s2b = Identity(s2)  z2b = Identity(z2)  d2 = DequantizeLinear(q2, s2b, z2b)
      w = DequantizeLinear(w3, sw, z)  c3 = Conv<pads=[1,1,1,1]>(d1, w)  sum = Add(c3, d2)  a = Relu(sum)
      zb = Identity(za)  q3 = QuantizeLinear(a, sa, zb)  q4 = Cast<to = 2>(q3)  d4 = DequantizeLinear(q4, sa, za)
      {GAP.replace("(a)", "(d4)").replace("logits =", "y =")}
      sy = Constant<value = float {{0.05}}>()  zy = Constant<value = uint8 {{128}}>()
      qy = QuantizeLinear(y, sy, zy)  cy = Cast<to = 2>(qy)  logits = DequantizeLinear(cy, sy, zy)"""
    return build(body, {**TRUNK_WEIGHTS, **GAP_WEIGHTS, **INT8, "w3": integers(4, 4, 3, 3)})


def test_a_cast_of_integers_to_their_own_type_is_proved():
    proved(with_casts())
    proved(with_casts(), layers="d1")


def test_what_each_reader_dequantises_for_itself_behind_a_cast_is_one_layer():
    listed = {layer.name: layer for layer in inspect(with_casts()).layers}
    assert not {"d2", "b", "a"} & set(listed), "each of them is d1 or d4"
    assert listed["d4"].default
    made = run(instrument(with_casts(), layers="d1"), images(2, seed=3))
    model = with_casts()
    other = run(instrument(model, layers="d2"), images(2, seed=3))
    np.testing.assert_array_equal(made["xcam_map"], other["xcam_map"])
    assert (made["xcam_map"] > 0).any()
    np.testing.assert_array_equal(made["logits"], session(model).run(["logits"], {"image": images(2, seed=3)})[0])


# --- ONNX Runtime's float16 converter, Quark ------------------------------------------------------------------------


@pytest.mark.parametrize("model", [cnn(), with_casts(), dynamic_range()], ids=["float", "casts", "dynamic"])
def test_nodes_in_any_order(model):
    """ONNX Runtime sorts for itself, and its float16 converter puts a model's first node last."""
    shuffled = onnx.ModelProto()
    shuffled.CopyFrom(model)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(model.graph.node[::-1])
    assert [layer.shape for layer in inspect(shuffled).layers] == [layer.shape for layer in inspect(model).layers]
    x = images(2, seed=4)
    mine, theirs = run(instrument(shuffled), x), run(instrument(model), x)
    for name, value in theirs.items():
        np.testing.assert_array_equal(mine[name], value)
    proved(shuffled)


def test_an_order_takes_what_branches_read_into_account():
    text = """<ir_version: 8, opset_import: ["": 17]> g (float[N,4] x, bool c) => (float[N,4] y) {
      y = If (c) <then_branch = t () => (float[N,4] u) { u = Neg(h) },
                  else_branch = e () => (float[N,4] v) { v = Abs(h) }>
      h = Relu(x) }"""
    assert [node.op_type for node in in_order(parse_model(text)).graph.node] == ["Relu", "If"]


def test_a_branch_that_hands_out_a_tensor_from_outside_comes_behind_what_makes_it():
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4] x, bool c) => (float[N,4] y) {
      y = If (c) <then_branch = t () => (float[N,4] h) { },
                  else_branch = e () => (float[N,4] v) { v = Abs(x) }>
      h = Relu(x) }"""
    assert [node.op_type for node in in_order(parse_model(text)).graph.node] == ["Relu", "If"]


# --- ONNX Runtime's own operators where the standard's lack a type --------------------------------------------------


def test_weights_of_four_bits_before_the_standard_knows_them():
    """UseQDQContribOps: com.microsoft's DequantizeLinear at opset 17, whose standard operators take no int4."""
    scales = np.random.default_rng(0).uniform(0.01, 0.03, C).astype(np.float32)
    few = integers(144, C) // 12
    weight = "w = com.microsoft.DequantizeLinear<axis = 1>(w4, ws)"
    body = f"""{TRUNK} a = Relu(c2)  flat = Flatten(a)  {weight}  t = MatMul(flat, w)
      u = Softplus(t)  logits = MatMul(u, w5)"""
    weights = {**TRUNK_WEIGHTS, "w5": (C, C)}
    model = build(body, {**weights, "ws": scales}, imports=', "com.microsoft" : 1')
    model.graph.initializer.append(onnx.helper.make_tensor("w4", onnx.TensorProto.INT4, few.shape, few))
    plain = build(body.replace(weight, ""), {**weights, "w": few * scales})
    x, classes = images(2, seed=5), [list(range(C))]
    mine, theirs = run(instrument(model), x, classes), run(instrument(plain), x, classes)
    assert (theirs["xcam_map"] > 0).any()
    np.testing.assert_allclose(mine["xcam_map"], theirs["xcam_map"], rtol=1e-4, atol=1e-6)
    proved(model)


# --- float16 with some operators left in float32 --------------------------------------------------------------------


def test_a_cast_to_float16_and_back_is_proved():
    body = f"""{TRUNK} a = Relu(c2)  p = GlobalAveragePool(a)  half = Cast<to = 10>(p)  f = Flatten(half)
      y = Gemm<transB=1>(f, fc)  logits = Cast<to = 1>(y)"""
    fc = np.random.default_rng(1).standard_normal((C, 4)).astype(np.float16)
    proved(build(body, {**TRUNK_WEIGHTS, "fc": fc}))


@pytest.mark.parametrize("block", [0, 16, 40], ids=["channels", "blocks", "a last block of fewer"])
@pytest.mark.parametrize("zero", [False, True])
def test_weights_of_four_bits_stay_fused_with_their_product(block, zero, tmp_path):
    """MatMulNBits, that ONNX Runtime makes of both, rounds the activations too: the outputs would change."""
    random, rows = np.random.default_rng(0), -(-144 // block) if block else 1
    scales = random.uniform(0.01, 0.03, (rows, C) if block else C).astype(np.float32)
    few, shift = integers(144, C) // 12, random.integers(-3, 3, scales.shape).astype(np.int8) * zero
    axis = f"axis = 0, block_size = {block}" if block else "axis = 1"
    weight = f"w = DequantizeLinear<{axis}>(w4, ws{', wz' if zero else ''})"
    body = f"""{TRUNK} a = Relu(c2)  flat = Flatten(a)  {weight}  t = MatMul(flat, w)
      u = Softplus(t)  logits = MatMul(u, w5)"""
    weights = {**TRUNK_WEIGHTS, "w5": (C, C)}
    model = build(body, {**weights, "ws": scales}, opset=21, ir=10)
    for name, values in {"w4": few, **({"wz": shift} if zero else {})}.items():
        model.graph.initializer.append(onnx.helper.make_tensor(name, onnx.TensorProto.INT4, values.shape, values))
    spread = [array.repeat(block, 0)[:144] if block else array for array in (scales, shift)]
    plain = build(body.replace(weight, ""), {**weights, "w": (few - spread[1]) * spread[0]}, opset=21, ir=10)
    x, classes = images(2, seed=5), [list(range(C))]
    mine, theirs = run(instrument(model), x, classes), run(instrument(plain), x, classes)
    np.testing.assert_allclose(mine["xcam_map"], theirs["xcam_map"], rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(mine["logits"], session(model).run(["logits"], {"image": x})[0])
    proved(model)


# --- integers of fewer bits than their type: a Clip behind the quantiser (PyTorch's fake_quantize, Brevitas) ----------

NARROW = {
    "s": np.array(0.02, np.float32),
    "z": np.array(0, np.uint8),
    "zs": np.array(64, np.uint8),
    "low": np.array(0, np.uint8),
    "high": np.array(127, np.uint8),
}


def narrow(score_step: float, end: str = "logits = DequantizeLinear(ky, ss, zs)", output: str = "") -> onnx.ModelProto:
    """7 bits: the layer, its average and the score are quantised and clipped."""
    body = f"""{TRUNK} b = Relu(c2)
      q = QuantizeLinear(b, s, z)  k = Clip(q, , high)  a = DequantizeLinear(k, s, z)  pooled = GlobalAveragePool(a)
      qp = QuantizeLinear(pooled, s, z)  kp = Clip(qp, low, high)  p = DequantizeLinear(kp, s, z)  flat = Flatten(p)
      y = Gemm<transB=1>(flat, fc)  qy = QuantizeLinear(y, ss, zs)  ky = Clip(qy, low, high)  {end}"""
    weights = {**TRUNK_WEIGHTS, **NARROW, "fc": (C, 4), "ss": np.array(score_step, np.float32)}
    return build(body, weights, outputs=output or f"float[N,{C}] logits")


def test_a_score_at_the_end_of_a_narrow_range_is_explained():
    coarse, fine = narrow(0.02), narrow(0.0005)
    x, classes = images(2, seed=3), [list(range(C))]
    found, other = run(instrument(fine), x, classes), run(instrument(coarse), x, classes)
    assert np.isclose(found["logits"].max(1), 63 * 0.0005).all(), "the top class is clipped"
    np.testing.assert_allclose(found["xcam_gradients"], other["xcam_gradients"], rtol=1e-5)
    assert (found["xcam_gradients"] != 0).any(axis=(2, 3, 4)).all()


def test_a_clip_of_integers_is_proved():
    proved(narrow(0.02))


def test_no_gradient_is_lost_where_the_lower_end_of_a_clip_stands_for_zero():
    """An average of what is never negative, rounded to zero, was not clipped."""
    model = narrow(0.02)
    zero = next(tensor for tensor in model.graph.initializer if tensor.name == "s")
    zero.CopyFrom(numpy_helper.from_array(np.array(1.5, np.float32), "s"))
    x = images(2, seed=3)
    found = run(instrument(model, emit=["gradients"]), x, [list(range(C))])
    averages = run_inner(model, "kp", x)
    assert (averages == 0).any()
    fc = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "fc")
    wanted = np.broadcast_to(fc[None, :, :, None, None] / 36, found["xcam_gradients"].shape)
    np.testing.assert_allclose(found["xcam_gradients"], wanted, rtol=1e-5)


def test_probabilities_are_read_off_clipped_integers():
    model = narrow(0.02, end="logits = Identity(ky)", output=f"uint8[N,{C}] logits")

    def metadata():
        return Metadata.from_json({p.key: p.value for p in instrument(model).metadata_props}["onnx_xcam"])

    read = ("logits", "softmax", pytest.approx(0.02), 64.0)
    assert (metadata().probabilities, metadata().logits) == (None, read)
    labels = model.metadata_props.add()
    labels.key, labels.value = LABELS_KEY, '["a", "b", "c", "d", "e"]'
    assert (metadata().probabilities, metadata().logits) == (read, read)


def run_inner(model: onnx.ModelProto, name: str, x: np.ndarray) -> np.ndarray:
    """The values of an inner tensor."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.add().name = name
    return session(copy).run([name], {"image": x})[0]


def test_the_float32_outputs_of_a_float16_model_are_judged_as_float16():
    """With float32 inputs and outputs: what is read between them may change where ONNX Runtime rounds to float16."""
    body = f"""half = Cast<to = 10>(image)  {TRUNK.replace("(image,", "(half,")}  a = Relu(c2)  flat = Flatten(a)
      h = Gemm<transB=1>(flat, d1)  g = Relu(h)  y = Gemm<transB=1>(g, fc)  logits = Cast<to = 1>(y)"""
    model = build(body, {**TRUNK_WEIGHTS, "d1": (64, 144), "fc": (C, 64)}, dtype=np.float16, opset=18)
    report = check(model)
    assert report.outputs[0].difference > 1e-6, "reading between the two products moved the output"
    assert report.passed, report.text()
