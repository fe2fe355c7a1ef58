"""Quantised models as other tools write them than ONNX Runtime's quantiser: tf2onnx, PyTorch, Brevitas and others."""

from __future__ import annotations

import numpy as np
import onnx
from models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, images, run, session

from onnx_xcam import check, inspect, instrument

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
    DequantizeLinear, and Constant nodes for scale and zero point."""
    body = f"""{TRUNK} b = Relu(c2)  sa = Constant<value = float {{0.02}}>()  za = Constant<value = uint8 {{0}}>()
      q = QuantizeLinear(b, sa, za)
      q1 = Cast<to = 2>(q)  s1 = Constant<value = float {{0.02}}>()  z1 = Constant<value = uint8 {{0}}>()
      d1 = DequantizeLinear(q1, s1, z1)
      q2 = Cast<to = 2>(q)  s2 = Constant<value = float {{0.02}}>()  z2 = Constant<value = uint8 {{0}}>()
      d2 = DequantizeLinear(q2, s2, z2)
      w = DequantizeLinear(w3, sw, z)  c3 = Conv<pads=[1,1,1,1]>(d1, w)  sum = Add(c3, d2)  a = Relu(sum)
      q3 = QuantizeLinear(a, sa, za)  q4 = Cast<to = 2>(q3)  d4 = DequantizeLinear(q4, sa, za)
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
