"""Quantised models: where a quantiser stops the gradient, judged by the integers that ONNX Runtime gives."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnx.parser import parse_model

from onnx_xcam import inspect, instrument

STEP = 0.125
"""Scale of every quantised tensor; the weights are whole numbers of it."""
RANGES = {"uint8": (0, 255), "int8": (-128, 127)}


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))


def built(body: str, weights: dict[str, np.ndarray], channels: int) -> onnx.ModelProto:
    model = parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[N,{channels},4,4] image) => (float[N,2] logits) {{{body}}}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def pooled(pool: str, dtype: str, zero: int, steps: float = 0.5) -> onnx.ModelProto:
    """Four channels, quantised, pooled, quantised by a step that many times as large, and two classes made of them."""
    weights = {
        "small": np.array(STEP * steps, np.float32),
        "step": np.array(STEP, np.float32),
        "z": np.array(zero, dtype),
        "fc": np.array([[1, 2, 3, 4], [-4, 3, -2, 1]], np.float32),
    }
    body = f"""
      q = QuantizeLinear(image, step, z)  a = DequantizeLinear(q, step, z)
      p = {pool}(a)  pq = QuantizeLinear(p, small, z)  pd = DequantizeLinear(pq, small, z)
      f = Flatten(pd)  logits = Gemm<transB=1>(f, fc)
    """
    return built(body, weights, 4)


def pooled_image(low: float, high: float) -> np.ndarray:
    """Channels: one whose mean rounds to nothing, one in the middle, one at each end of the range."""
    image = np.zeros((1, 4, 4, 4), np.float32)
    image[0, 0, 0, 0] = STEP
    image[0, 1] = 2.0
    image[0, 2], image[0, 3] = low, high
    return image


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean<axes=[2,3]>"])
@pytest.mark.parametrize("dtype", RANGES)
def test_an_average_of_nothing_negative_is_not_clipped_at_zero(pool, dtype):
    low, high = RANGES[dtype]
    model = pooled(pool, dtype, zero=low)
    found = run(instrument(model, layers="a"), {"image": pooled_image(0.0, STEP * (high - low))})
    each = found["xcam_gradients"][0, 0].reshape(4, 16)
    weights = np.array([[1, 2, 3, 4], [-4, 3, -2, 1]], np.float32)[found["xcam_classes"][0, 0]] / 16
    np.testing.assert_allclose(each, (weights * [1, 1, 1, 0])[:, None].repeat(16, 1), rtol=1e-6)


@pytest.mark.parametrize("dtype", RANGES)
def test_an_average_quantised_as_what_it_averages_is_not_clipped(dtype):
    low, high = RANGES[dtype]
    zero = (low + high + 1) // 2
    model = pooled("GlobalAveragePool", dtype, zero, steps=1)
    found = run(instrument(model, layers="a"), {"image": pooled_image(STEP * (low - zero), STEP * (high - zero))})
    each = found["xcam_gradients"][0, 0].reshape(4, 16)
    weights = np.array([[1, 2, 3, 4], [-4, 3, -2, 1]], np.float32)[found["xcam_classes"][0, 0]] / 16
    np.testing.assert_allclose(each, weights[:, None].repeat(16, 1), rtol=1e-6)


GELU = """
  c = Conv(image, w)  q = QuantizeLinear(c, step, z)  d = DequantizeLinear(q, step, z)
  k = Div(d, root)  e = Erf(k)  eq = QuantizeLinear(e, es, z)  ed = DequantizeLinear(eq, es, z)
  o = Add(ed, one)  oq = QuantizeLinear(o, es, zo)  od = DequantizeLinear(oq, es, zo)
  m = Mul(d, od)  g = Mul(m, half)  p = GlobalAveragePool(g)  f = Flatten(p)  logits = Gemm<transB=1>(f, fc)
"""


def test_gelu_spelled_out_and_quantised_is_not_clipped_where_erf_ends():
    """1 + erf(x) lies within its range: where its integer is 0 nothing was clipped, and x erf'(x) is not zero."""
    weights = {
        "step": np.array(0.05, np.float32),
        "z": np.array(128, np.uint8),
        "es": np.array(2 / 255, np.float32),
        "zo": np.array(0, np.uint8),
        "root": np.array(np.sqrt(2), np.float32),
        "one": np.array(1, np.float32),
        "half": np.array(0.5, np.float32),
        "w": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
        "fc": np.array([[1, 2], [3, -4]], np.float32),
    }
    image = np.linspace(-3.5, 3, 32).astype(np.float32).reshape(1, 2, 4, 4)
    model = built(GELU, weights, 2)
    found = run(instrument(model, layers="d"), {"image": image})
    model.graph.output.add().name = "oq"
    integers = run(model, {"image": image})["oq"].astype(np.float64)
    assert (integers == 0).sum() >= 3
    d = found["xcam_activations"].astype(np.float64)
    slope = integers / 255 + d * np.exp(-d * d / 2) / np.sqrt(2 * np.pi)
    expected = weights["fc"][found["xcam_classes"][0, 0]].reshape(1, 2, 1, 1) * slope / 16
    np.testing.assert_allclose(found["xcam_gradients"][:, 0], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", RANGES)
def test_a_signed_average_is_clipped_at_both_ends(dtype):
    low, high = RANGES[dtype]
    zero = (low + high + 1) // 2
    model = pooled("GlobalAveragePool", dtype, zero)
    found = run(instrument(model, layers="a"), {"image": pooled_image(STEP * (low - zero), STEP * (high - zero))})
    each = found["xcam_gradients"][0, 0].reshape(4, 16)
    weights = np.array([[1, 2, 3, 4], [-4, 3, -2, 1]], np.float32)[found["xcam_classes"][0, 0]] / 16
    np.testing.assert_allclose(each, (weights * [1, 1, 0, 0])[:, None].repeat(16, 1), rtol=1e-6)


def test_what_a_quantiser_clips_at_zero_in_place_of_a_relu_is_stopped():
    """The quantiser removes a ReLU whose result it quantises from zero on: the integer 0 is then its dead half."""
    weights = {
        "step": np.array(STEP, np.float32),
        "z": np.array(0, np.uint8),
        "w": np.array([[1.0], [-1.0]], np.float32).reshape(2, 1, 1, 1),
        "fc": np.array([[1, 2], [3, 4]], np.float32),
    }
    body = """
      q = QuantizeLinear(image, step, z)  a = DequantizeLinear(q, step, z)
      c = Conv(a, w)  cq = QuantizeLinear(c, step, z)  cd = DequantizeLinear(cq, step, z)
      p = GlobalAveragePool(cd)  f = Flatten(p)  logits = Gemm<transB=1>(f, fc)
    """
    image = np.full((1, 1, 4, 4), 1.0, np.float32)
    found = run(instrument(built(body, weights, 1), layers="a"), {"image": image})
    assert found["xcam_classes"][0, 0] == 1
    np.testing.assert_allclose(found["xcam_gradients"], np.full((1, 1, 1, 4, 4), 3 / 16), rtol=1e-6)


@pytest.mark.parametrize("first", ["own", "added"])
def test_integers_that_are_read_as_such_and_dequantised_are_one_layer(first):
    """A residual sum that one operator reads as integers and another as floats is what the score depends on."""
    weights = {
        "step": np.array(STEP, np.float32),
        "z": np.array(0, np.uint8),
        "fc": np.array([[1, 2], [3, -4]], np.float32),
        "w": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1),
    }
    floats = "a = DequantizeLinear(q, step, z)  s = Sigmoid(a)  sq = QuantizeLinear(s, step, z)"
    added = "m = com.microsoft.QLinearMul(q, step, z, q, step, z, step, z)"
    branches = f"{floats} {added}" if first == "own" else f"{added} {floats}"
    body = f"""
      c = Conv(image, w)  q = QuantizeLinear(c, step, z)  {branches}
      y = com.microsoft.QLinearAdd(sq, step, z, m, step, z, step, z)
      p = com.microsoft.QLinearGlobalAveragePool<channels_last=0>(y, step, z, step, z)
      d = DequantizeLinear(p, step, z)  f = Flatten(d)  logits = Gemm<transB=1>(f, fc)
    """
    model = built(body, weights, 2)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    names = {layer.name for layer in inspect(model).layers}
    assert names == {"a", "y"}
    image = np.random.default_rng(0).uniform(0.5, 2, (1, 2, 4, 4)).astype(np.float32)
    found = run(instrument(model, layers="a"), {"image": image})
    a = found["xcam_activations"]
    weights_of = weights["fc"][found["xcam_classes"][0, 0]].reshape(1, 2, 1, 1) / 16
    sigmoid = 1 / (1 + np.exp(-a))
    np.testing.assert_allclose(found["xcam_gradients"][:, 0], weights_of * (2 * a + sigmoid * (1 - sigmoid)), rtol=1e-5)


@pytest.mark.parametrize("name", ["a", "b", "q"])
def test_a_layer_is_found_by_every_float_of_its_integers(name):
    """ONNX Runtime's optimiser writes a DequantizeLinear for each reader."""
    weights = {"step": np.array(STEP, np.float32), "z": np.array(0, np.uint8), "w": np.ones((1, 1, 1, 1), np.float32)}
    body = """
      c = Conv(image, w)  q = QuantizeLinear(c, step, z)
      a = DequantizeLinear(q, step, z)  b = DequantizeLinear(q, step, z)
      m = Mul(a, b)  mq = QuantizeLinear(m, step, z)  md = DequantizeLinear(mq, step, z)
      p = GlobalAveragePool(md)  f = Flatten(p)  two = Constant<value_floats=[1.0, 2.0]>()  logits = Mul(f, two)
    """
    image = np.random.default_rng(0).uniform(0.5, 2, (1, 1, 4, 4)).astype(np.float32)
    found = run(instrument(built(body, weights, 1), layers=name), {"image": image})
    np.testing.assert_allclose(found["xcam_gradients"][:, 0], 2 * 2 * found["xcam_activations"] / 16, rtol=1e-5)
