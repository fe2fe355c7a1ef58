"""What ONNX Runtime runs of the model itself is the same with and without the added nodes: no fusion is lost."""

from __future__ import annotations

import onnx
import pytest

from helpers import ROOT
from helpers.models import GAP, GAP_WEIGHTS, cnn, forward_ops
from onnx_xcam import instrument

SAMPLES = ROOT / "sample_models"
NORM = """mu = ReduceMean<axes=[-1]>(t)  d = Sub(t, mu)  two = Constant<value_float=2.0>()  q = Pow(d, two)
    v = ReduceMean<axes=[-1]>(q)  eps = Constant<value_float=0.00001>()  e = Add(v, eps)  r = Sqrt(e)
    x = Div(d, r)  w = Mul(x, scale)  n = Add(w, shift)"""
ACTS = {
    "Conv+Relu": ("k = Conv(r1, w3)  a = Relu(k)", {"w3": (4, 3, 3, 3)}),
    "Conv+Clip": (
        "zero = Constant<value_float=0.0>()  six = Constant<value_float=6.0>()  k = Conv(r1, w3)  "
        "a = Clip(k, zero, six)",
        {"w3": (4, 3, 3, 3)},
    ),
    "Conv+BatchNormalization": ("k = Conv(r1, w3)  a = BatchNormalization(k, s, o, m, v)", {
        "w3": (4, 3, 3, 3), "s": (4,), "o": (4,), "m": (4,), "v": (4,)}),
    "SiLU": ("s = Sigmoid(c2)  a = Mul(c2, s)", {}),
    "gate": (
        "p = GlobalAveragePool(c2)  z = Conv(p, w1)  g = Sigmoid(z)  a = Mul(c2, g)", {"w1": (4, 4, 1, 1)}
    ),
    "GELU": (
        "root = Constant<value_float=1.41421356>()  one = Constant<value_float=1.0>()  "
        "half = Constant<value_float=0.5>()  u = Div(c2, root)  e = Erf(u)  p = Add(e, one)  m = Mul(c2, p)  "
        "a = Mul(m, half)",
        {},
    ),
    "LayerNormalization": (
        f"t = Transpose<perm=[0,2,3,1]>(c2)  {NORM}  a = Transpose<perm=[0,3,1,2]>(n)", {"scale": (4,), "shift": (4,)}
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ACTS)
def test_small_models(case, tmp_path):
    act, weights = ACTS[case]
    plain = cnn(GAP, act=act, weights={**GAP_WEIGHTS, **weights}, opset=13)
    before = forward_ops(plain, tmp_path)
    assert before == forward_ops(instrument(plain, layers="r1", emit=("map", "status")), tmp_path)
    assert any(name.startswith("com.microsoft") for name in before)


@pytest.mark.parametrize("layer", ["auto", "/_blocks.8/_swish_1/Clip_output_0"])
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite0_int8"])
def test_sample_models(name, layer, tmp_path):
    path = SAMPLES / f"{name}.onnx"
    before = forward_ops(onnx.load(path), tmp_path)
    after = forward_ops(instrument(path, layers=layer, emit=("map", "status")), tmp_path)
    assert before == after
    kind = "QLinearConv" if name.endswith("int8") else "com.microsoft.nchwc:Conv"
    assert any(kind in op for op in before)
