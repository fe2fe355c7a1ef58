"""Models that ONNX Runtime optimised and saved are explained as the models they were made of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers.models import build, cnn, images, run, saved, session
from helpers.token_models import CLASSES, MODELS, token_model
from onnx_xcam import check, inspect, instrument
from onnx_xcam.surgery.lowering import lowered

CAM = ("map", "activations", "gradients")
EXTENDED = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
BASIC = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC

_LAYER_NORM = """
  m{i} = ReduceMean<axes=[-1]>({x})  d{i} = Sub({x}, m{i})  p{i} = Pow(d{i}, two)  v{i} = ReduceMean<axes=[-1]>(p{i})
  e{i} = Add(v{i}, eps)  s{i} = Sqrt(e{i})  h{i} = Div(d{i}, s{i})  g{i} = Mul(h{i}, gamma)  {y} = Add(g{i}, beta)
"""
_GELU = "u = Div({x}, root)  f = Erf(u)  o = Add(f, one)  w = Mul({x}, o)  {y} = Mul(w, half)"
_MIXER = (
    "patches = Conv<strides=[3,3]>(image, cw)  lined = Reshape(patches, line)  x0 = Transpose<perm=[0,2,1]>(lined)  "
    + _LAYER_NORM.format(i=0, x="x0", y="n0")
    + "q = MatMul(n0, wq)  k = MatMul(n0, wk)  kt = Transpose<perm=[0,2,1]>(k)  raw = MatMul(q, kt)  "
    "scaled = Mul(raw, quarter)  rows = Softmax<axis=-1>(scaled)  mixed = MatMul(rows, n0)  x1 = Add(x0, mixed)"
    + _LAYER_NORM.format(i=1, x="x1", y="n1")
    + "inner = MatMul(n1, w1)  biased = Add(inner, b1)  "
    + _GELU.format(x="biased", y="act")
    + "outer = MatMul(act, w2)  x2 = Add(x1, outer)"
    + _LAYER_NORM.format(i=2, x="x2", y="n2")
    + "mean = ReduceMean<axes=[1], keepdims=0>(n2)  logits = Gemm<transB=1>(mean, fc, fb)"
)


def mixer(opset: int = 13) -> onnx.ModelProto:
    """One block of attention with one head and of a perceptron, its norms and its Gelu spelled out."""
    random = np.random.default_rng(7)
    numbers = {"two": 2.0, "eps": 1e-5, "root": 2**0.5, "one": 1.0, "half": 0.5, "quarter": 0.25}
    weights: dict[str, object] = {name: np.array(value, np.float32) for name, value in numbers.items()}
    weights |= {name: random.normal(size=8).astype(np.float32) for name in ("gamma", "beta")}
    weights |= {"cw": (8, 3, 3, 3), "wq": (8, 8), "wk": (8, 8), "w1": (8, 16), "b1": (16,), "w2": (16, 8)}
    weights |= {"fc": (5, 8), "fb": (5,), "line": np.array([0, 8, -1], np.int64)}
    return build(_MIXER, weights, opset=opset)  # type: ignore[arg-type]


NETS = {
    "relu": (cnn("dense"), {"FusedConv", "FusedGemm"}),
    "clip": (cnn("dense", act="a = Clip(c2, low, high)", weights=None), {"FusedConv", "FusedGemm"}),
    "leaky": (cnn("dense", act="a = LeakyRelu<alpha=0.2>(c2)"), {"FusedConv"}),
    "sigmoid": (cnn("dense", act="a = Sigmoid(c2)"), {"FusedConv"}),
    "silu": (cnn("dense", act="s = Sigmoid(c2)  a = Mul(c2, s)"), {"QuickGelu"}),
    "residual": (cnn("dense", act="r2 = Relu(c2)  sum = Add(r2, c2)  a = Relu(sum)"), set()),
    "mixer": (mixer(), {"BiasGelu", "FusedMatMul"}),
    "mixer, opset 17": (mixer(17), {"BiasGelu", "FusedMatMul"}),
}
for _bound, _value in (("low", 0.0), ("high", 0.6)):
    NETS["clip"][0].graph.initializer.append(onnx.numpy_helper.from_array(np.array(_value, np.float32), _bound))


def own(model: onnx.ModelProto) -> Counter[str]:
    """The operators that are not the standard's (or not in the standard's version)."""
    nodes, early = model.graph.node, model.opset_import[0].version < 17
    found = Counter(node.op_type for node in nodes if node.domain not in ("", "ai.onnx"))
    found.update(node.op_type for node in nodes if node.op_type == "LayerNormalization" and early)
    return found


@pytest.mark.parametrize("name", NETS)
def test_explained_as_the_original(name: str, tmp_path: Path):
    model, expected = NETS[name]
    optimised = saved(model, EXTENDED, tmp_path)
    assert expected <= set(own(optimised)), own(optimised)
    assert not own(lowered(optimised).model)
    _compare(model, optimised, images())
    report = check(optimised)
    assert report.passed, report.text()


@pytest.mark.parametrize("level", [BASIC, EXTENDED], ids=["basic", "extended"])
@pytest.mark.parametrize("name", MODELS)
def test_tokens_are_found_as_in_the_original(name: str, level: ort.GraphOptimizationLevel, tmp_path: Path):
    model = token_model(name)
    image = np.random.default_rng(2).normal(size=(2, 3, 8, 12)).astype(np.float32)
    _compare(model, saved(model, level, tmp_path), image)


def _compare(model: onnx.ModelProto, optimised: onnx.ModelProto, image: np.ndarray) -> None:
    layers = [next(layer for layer in inspect(one).layers if layer.default) for one in (model, optimised)]
    assert layers[0].shape == layers[1].shape
    assert (layers[0].layout, layers[0].grid) == (layers[1].layout, layers[1].grid)
    explained = [instrument(one, emit=CAM) for one in (model, optimised)]
    wanted, ours = (run(one, image, [[1, 3]]) for one in explained)
    for output in ("xcam_scores", "xcam_gradients", "xcam_map"):
        scale = np.abs(wanted[output]).max()
        assert scale > 1e-6
        np.testing.assert_allclose(ours[output], wanted[output], rtol=0, atol=1e-5 * scale)
    (plain,) = session(optimised).run(None, {"image": image})
    assert plain.shape[-1] == CLASSES
    np.testing.assert_allclose(ours["logits"], plain, rtol=0, atol=1e-6 * np.abs(plain).max())


@pytest.mark.parametrize("name", NETS)
def test_the_tail_leaves_what_is_fused_alone_and_repeats_no_convolution(name: str, tmp_path: Path):
    optimised = saved(NETS[name][0], EXTENDED, tmp_path)
    plain = saved(optimised, EXTENDED, tmp_path)
    explained = saved(instrument(optimised, emit=("map",)), EXTENDED, tmp_path)
    forward = Counter(node.op_type for node in explained.graph.node if not node.name.startswith("xcam/"))
    for op, count in Counter(node.op_type for node in plain.graph.node).items():
        if op in own(plain) or op == "Conv":
            assert forward[op] == count, op
    tail = Counter(node.op_type for node in explained.graph.node if node.name.startswith("xcam/"))
    assert not set(tail) & {"Conv", "FusedConv"}


def test_attention_as_one_operator_hides_no_class_token():
    """Which positions the score uses is followed through what stands for the operator."""
    body = """
      patches = Conv<strides=[4,4]>(image, cw)  lined = Reshape(patches, line)  grid = Transpose<perm=[0,2,1]>(lined)
      x0 = Concat<axis=1>(token, grid)  a1 = com.microsoft.Attention<num_heads=2>(x0, w1, b1)  x1 = Add(x0, a1)
      a2 = com.microsoft.Attention<num_heads=2>(x1, w2, b2)  x2 = Add(x1, a2)  first = Gather<axis=1>(x2, zero)
      logits = Gemm<transB=1>(first, fc)
    """
    weights = {"cw": (8, 3, 4, 4), "token": (1, 1, 8), "w1": (8, 24), "b1": (24,), "w2": (8, 24), "b2": (24,)}
    constants = {"line": np.array([0, 8, -1], np.int64), "zero": np.array(0, np.int64), "fc": (5, 8)}
    model = build(
        body,
        {**weights, **constants},  # type: ignore[dict-item]
        inputs="float[1,3,12,16] image",
        outputs="float[1,5] logits",
        imports=', "com.microsoft" : 1',
    )
    (default,) = (layer for layer in inspect(model).layers if layer.default)
    assert (default.name, default.grid) == ("x1", [3, 4, 1, 0])
    image = np.random.default_rng(4).normal(size=(1, 3, 12, 16)).astype(np.float32)
    ours, wanted = (run(instrument(one, emit=CAM), image) for one in (model, lowered(model).model))
    np.testing.assert_allclose(ours["xcam_gradients"], wanted["xcam_gradients"], rtol=0, atol=1e-6)
    assert np.abs(ours["xcam_gradients"]).max() > 1e-3
