"""Quantised operators that go with ONNX Runtime's float ones."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from helpers.lowering.single import ints
from helpers.models import build, images, run, session
from onnx_xcam import inspect, instrument
from onnx_xcam.surgery.lowering import lowered

_MICROSOFT = ', "com.microsoft" : 1'


@pytest.mark.parametrize("masked", [False, True], ids=["plain", "masked"])
@pytest.mark.parametrize("columns", [1, 24], ids=["one scale", "a scale for each column"])
def test_quantised_attention(columns: int, masked: bool):
    random = np.random.default_rng(0)
    weights = {
        "x": random.integers(0, 255, (2, 5, 8)).astype(np.uint8),
        "w": random.integers(-63, 63, (8, 24)).astype(np.int8),  # what no processor saturates at
        "b": random.normal(size=24).astype(np.float32),
        "sx": np.array(0.02, np.float32),
        "sw": np.abs(random.normal(size=columns) * 0.01).astype(np.float32),
        "zx": np.array(120, np.uint8),
        "zw": np.zeros(columns, np.int8),
        "mask": ints(1, 1, 1, 0, 1, 1, 0, 1, 1, 1).reshape(2, 5),
    }
    mask = "mask" if masked else ""
    body = f"y0 = com.microsoft.QAttention<num_heads=2>(x, w, b, sx, sw, {mask}, zx, zw)  y = Add(y0, zero)"
    model = build(
        body,
        {**weights, "zero": np.zeros((), np.float32)},
        inputs="float[1] image",
        outputs="float[2,5,8] y",
        imports=_MICROSOFT,
    )
    standard = lowered(model).model
    assert not [node.op_type for node in standard.graph.node if node.domain]
    feeds = {"image": np.zeros(1, np.float32)}
    (wanted,) = session(model).run(None, feeds)
    (found,) = session(standard, optimised=False).run(None, feeds)
    assert np.abs(wanted).max() > 0.1
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def residual() -> onnx.ModelProto:
    """A quantised residual stream that float operators read too, as a quantised transformer has it."""
    body = """
      c = Conv<strides=[3,3]>(image, w)  xq = QuantizeLinear(c, s, z)
      f = Relu(x1)  fq = QuantizeLinear(f, s, z)  yq = com.microsoft.QLinearAdd(xq, s, z, fq, s, z, s, z)
      t = Tanh(y1)  tq = QuantizeLinear(t, s, z)  oq = com.microsoft.QLinearAdd(yq, s, z, tq, s, z, s, z)
      o = DequantizeLinear(oq, s, z)  p = GlobalAveragePool(o)  g = Flatten(p)  logits = Gemm<transB=1>(g, fc)
    """
    body = body.replace("f = Relu(x1)", "x1 = DequantizeLinear(xq, s, z)  f = Relu(x1)")
    first, last = body.split("t = Tanh(y1)")  # the float of yq is made before one reader and after the other
    body = f"{first}  y2 = DequantizeLinear(yq, s, z)  y1 = Identity(y2)  t = Tanh(y1){last}"
    numbers = {"s": np.array(0.02, np.float32), "z": np.array(128, np.uint8)}
    return build(body, {"w": (4, 3, 3, 3), "fc": (5, 4), **numbers}, imports=_MICROSOFT)  # type: ignore[dict-item]


def test_a_quantised_tensor_is_one_tensor_whoever_reads_it():
    standard = lowered(residual()).model
    counted = Counter(node.input[0] for node in standard.graph.node if node.op_type == "DequantizeLinear")
    assert counted["xq"] == counted["yq"] == counted["oq"] == 1
    made = [name for node in standard.graph.node for name in node.output]
    assert len(made) == len(set(made))


def test_the_residual_stream_is_the_default_layer():
    model = residual()
    (default,) = (layer for layer in inspect(model).layers if layer.default)
    assert default.name == "o"
    found = run(instrument(model, layers=["auto", "y2"]), images())
    assert np.abs(found["xcam_gradients_1"]).max() > 0


def test_a_dequantised_tensor_may_be_needed_before_the_model_makes_it():
    model = residual()
    nodes = list(model.graph.node)
    late = next(node for node in nodes if node.output[0] == "y2")
    readers = [next(node for node in nodes if node.output[0] == name) for name in ("y1", "t", "tq")]
    add = onnx.helper.make_node(
        "QLinearAdd", ["yq", "s", "z", "yq", "s", "z", "s", "z"], ["twice"], domain="com.microsoft"
    )
    back = onnx.helper.make_node("DequantizeLinear", ["twice", "s", "z"], ["twice_float"])
    rest = [node for node in nodes if node not in (late, *readers)]
    at = next(i for i, node in enumerate(rest) if node.output[0] == "yq") + 1
    del model.graph.node[:]
    model.graph.node.extend([*rest[:at], add, back, late, *readers, *rest[at:]])
    standard = lowered(model).model
    counted = Counter(node.input[0] for node in standard.graph.node if node.op_type == "DequantizeLinear")
    assert counted["yq"] == 1
    assert np.isfinite(run(instrument(model), np.zeros((1, 3, 12, 12), np.float32))["xcam_map"]).all()
