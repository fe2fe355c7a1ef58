"""Models with shuffled weights: which tensors count as weights, in which order, and that nothing else changes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_xcam
from helpers.external_models import PLACES, model_with, save_external
from helpers.models import GAP, GAP_WEIGHTS, C, build, cnn, images, run, weight
from onnx_xcam.errors import ModelError, XcamError
from onnx_xcam.surgery.randomise import randomised, weight_layers

INT8 = "sample_models/efficientnet_lite0_int8.onnx"


def stored(content: bytes | onnx.ModelProto) -> dict[str, np.ndarray]:
    """All tensors of a model, those of Constant nodes under the name that they are read by."""
    model = onnx.ModelProto.FromString(content) if isinstance(content, bytes) else content
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def changed(before: dict[str, np.ndarray], after: dict[str, np.ndarray]) -> set[str]:
    """The tensors that differ; that these hold the same values in another order is made sure of."""
    assert before.keys() == after.keys()
    different = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    for name in different:
        assert before[name].dtype == after[name].dtype and before[name].shape == after[name].shape
        assert sorted(before[name].ravel().tolist()) == sorted(after[name].ravel().tolist())
    return different


def names(model, **options) -> list[set[str]]:
    return [set(layer.tensors) for layer in weight_layers(model, **options)]


def test_layers_run_from_the_score_to_the_input():
    layers = weight_layers(cnn("dense"))
    assert [layer.tensors for layer in layers] == [("d2", "e2"), ("d1", "e1"), ("w2", "b2"), ("w1", "b1")]
    assert [layer.name for layer in layers] == ["logits", "hidden", "c2", "c1"]
    assert [layer.op for layer in layers] == ["Gemm", "Gemm", "Conv", "Conv"]
    assert layers[0].count == C * 7 + C


def test_the_cascade_shuffles_one_more_layer_each_time():
    model = cnn("dense")
    content, before = model.SerializeToString(), stored(model)
    expected = set[str]()
    steps = list(randomised(model))
    for step, tensors in zip(steps, names(model), strict=True):
        expected |= tensors
        assert changed(before, stored(step.model)) == expected
    assert [(step.depth, step.of) for step in steps] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert model.SerializeToString() == content, "the caller's model stays what it was"


def test_independent_steps_shuffle_one_layer_and_in_the_same_way():
    model = cnn("dense")
    before, whole = stored(model), stored(list(randomised(model))[-1].model)
    for step, tensors in zip(randomised(model, order="independent"), names(model), strict=True):
        after = stored(step.model)
        assert changed(before, after) == tensors
        for name in tensors:
            assert (after[name] == whole[name]).all()


def test_the_seed_decides():
    model = cnn("dense")
    last = [stored(list(randomised(model, seed=seed))[-1].model) for seed in (0, 0, 1)]
    assert all((last[0][name] == last[1][name]).all() for name in last[0])
    assert (last[0]["d1"] != last[2]["d1"]).any()


@pytest.mark.parametrize(
    ("steps", "depths"), [(1, [4]), (2, [1, 4]), (3, [1, 2, 4]), (4, [1, 2, 3, 4]), (9, [1, 2, 3, 4])]
)
def test_few_steps_are_spread_from_the_first_layer_to_the_last(steps, depths):
    model = cnn("dense")
    for order in ("cascading", "independent"):
        assert [step.depth for step in randomised(model, steps=steps, order=order)] == depths
    all_steps = {step.depth: step.model for step in randomised(model)}
    assert all(step.model == all_steps[step.depth] for step in randomised(model, steps=steps))


@pytest.mark.parametrize("place", [place for place in PLACES if place != "branch constant"])
def test_weights_are_found_wherever_they_lie(place):
    """In a function or a branch they get other names, once that is inlined."""
    first = next(randomised(model_with(place)))
    assert first.layer.count == C * 4 + C
    image = images()
    plain, shuffled = (run(model, image)["logits"] for model in (model_with(place), first.model))
    assert np.abs(plain - shuffled).max() > 0.1


def test_weights_in_other_files_are_read(tmp_path):
    path, whole = save_external(tmp_path)
    before = path.read_bytes(), (tmp_path / "weights.bin").read_bytes()
    for step, expected in zip(randomised(path), randomised(whole), strict=True):
        assert changed(stored(step.model), stored(expected.model)) == set()
    assert (path.read_bytes(), (tmp_path / "weights.bin").read_bytes()) == before


def test_a_shared_weight_belongs_to_the_layer_next_to_the_score():
    body = """
      a = Conv<pads=[1,1,1,1]>(image, w)  b = Relu(a)  c = Conv<pads=[1,1,1,1]>(b, w)
      p = GlobalAveragePool(c)  logits = Flatten(p)
    """
    model = build(body, {"w": (3, 3, 3, 3)}, outputs="float[N,3] logits")
    assert names(model) == [{"w"}]


def test_only_what_lies_between_the_picture_and_the_score_counts():
    body = """
      c = Conv(image, w)  p = GlobalAveragePool(c)  logits = Flatten(p)
      other = Conv(image, v)  q = Relu(p)  behind = Mul(q, u)
    """
    weights = {"w": (C, 3, 1, 1), "v": (C, 3, 1, 1), "u": (C, 1, 1)}
    model = build(body, weights, outputs=f"float[N,{C}] logits, float[N,{C},12,12] other, float[N,{C},1,1] behind")
    assert names(model, score="logits") == [{"w"}]


def test_the_order_of_the_nodes_in_the_file_does_not_matter():
    model = cnn("dense")
    mixed = onnx.ModelProto.FromString(model.SerializeToString())
    nodes = [model.graph.node[n] for n in np.random.default_rng(0).permutation(len(model.graph.node))]
    del mixed.graph.node[:]
    mixed.graph.node.extend(nodes)
    assert weight_layers(mixed) == weight_layers(model)


def test_what_a_branch_reads_of_the_picture_counts():
    """A layer whose result only a branch reads lies between the picture and the score too."""
    model = cnn(
        GAP.replace("(a)", "(o)"),
        weights=GAP_WEIGHTS,
        act="a = Relu(c2)  o = If(flag) <then_branch = t () => (float[N,4,6,6] p) { p = Abs(a) }, "
        "else_branch = e () => (float[N,4,6,6] q) { q = Neg(a) }>",
        image="float[N,3,12,12] image, bool flag",
    )
    assert [layer.name for layer in weight_layers(model)] == ["logits", "c2", "c1"]


def test_norms_biases_scales_and_embeddings_but_no_constants_of_another_kind():
    body = """
      n = Sub(image, mean)  c = Conv<pads=[1,1,1,1]>(n, w)
      b = BatchNormalization(c, scale, bias, mu, var)  s = Mul(b, gamma)
      e = Add(s, position)  z = Mul(e, half)  r = Clip(z, low, high)
      u = Resize<mode="nearest">(r, roi, scales)  p = GlobalAveragePool(u)
      f = Reshape(p, shape)  m = MatMul(f, wt)  k = Add(m, kb)  h = Pow(k, half)  logits = Mul(h, one)
    """
    random = np.random.default_rng(0)
    drawn = {"mean": (3, 1, 1), "w": (4, 3, 3, 3), "scale": (4,), "bias": (4,), "mu": (4,)}
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in drawn.items()}
    weights |= {"var": random.uniform(1, 2, 4).astype(np.float32), "gamma": np.float32([[[1]], [[2]], [[3]], [[4]]])}
    weights |= {"position": random.normal(size=(4, 12, 12)).astype(np.float32), "half": np.float32(0.5)}
    weights |= {
        "low": np.float32(0),
        "high": np.float32(6),
        "roi": np.zeros(0, np.float32),
        "one": np.ones(1, np.float32),
    }
    weights |= {"scales": np.float32([1, 1, 2, 2]), "shape": np.array([0, -1], np.int64)}
    weights |= {"wt": random.normal(size=(4, C)).astype(np.float32), "kb": random.normal(size=C).astype(np.float32)}
    model = build(body, {name: np.asarray(value) for name, value in weights.items()})
    found = weight_layers(model)
    assert [set(layer.tensors) for layer in found] == [
        {"wt", "kb"},
        {"position"},
        {"w", "scale", "bias", "mu", "var", "gamma", "mean"},
    ]
    assert [layer.op for layer in found] == ["MatMul", "Add", "Conv"]
    last = stored(list(randomised(model))[-1].model)
    assert (last["var"] > 0).all()


def test_a_head_with_a_single_output_is_a_layer():
    body = "c = Conv(image, w)  p = GlobalAveragePool(c)  f = Flatten(p)  logits = Gemm<transB=1>(f, d, e)"
    model = build(body, {"w": (4, 3, 1, 1), "d": (1, 4), "e": (1,)}, outputs="float[N,1] logits")
    assert names(model) == [{"d"}, {"w"}]


def test_weights_behind_other_nodes_are_found():
    body = """
      t = Transpose<perm=[3,2,0,1]>(hwio)  h = Cast<to=1>(t)  c = Conv<pads=[1,1,1,1]>(image, h)
      p = GlobalAveragePool(c)  logits = Flatten(p)
    """
    weights = {"hwio": np.random.default_rng(0).normal(size=(3, 3, 3, C)).astype(np.float16)}
    assert names(build(body, weights)) == [{"hwio"}]


def test_integers_of_quantised_weights_are_shuffled_and_their_scales_stay():
    before = stored(onnx.load(INT8))
    step = next(randomised(INT8, steps=1))
    different = changed(before, stored(step.model))
    kinds = {before[name].dtype for name in different}
    assert kinds == {np.dtype(np.uint8), np.dtype(np.int32)}  # weights and biases
    kept = {name for name, values in before.items() if values.dtype == np.uint8 and values.size > 1} - different
    assert all(len(np.unique(before[name])) == 1 for name in kept), "the others have nothing to shuffle: zero points"
    assert any(before[name].size > 1 and before[name].dtype == np.float32 for name in before.keys() - different)


QLINEAR = """
  q = QuantizeLinear(image, xs, xz)
  c = QLinearConv<pads=[1,1,1,1]>(q, xs, xz, w, ws, wz, ys, xz, b)
  a = DequantizeLinear(c, ys, xz)  p = GlobalAveragePool(a)  logits = Flatten(p)
"""
DYNAMIC = """
  q, s, z = DynamicQuantizeLinear(image)  c = ConvInteger<pads=[1,1,1,1]>(q, w, z)
  f = Cast<to=1>(c)  a = Mul(f, s)  p = GlobalAveragePool(a)  logits = Flatten(p)
"""


@pytest.mark.parametrize(("body", "expected"), [(QLINEAR, {"w", "b"}), (DYNAMIC, {"w"})])
def test_operators_on_integers(body, expected):
    random = np.random.default_rng(0)
    weights = {"w": random.integers(-127, 127, (C, 3, 3, 3)).astype(np.int8), "b": np.arange(C, dtype=np.int32)}
    weights |= {"xs": np.float32(0.02), "ys": np.float32(0.05), "xz": np.uint8(128)}
    weights |= {"ws": random.uniform(0.01, 0.02, C).astype(np.float32), "wz": np.zeros(C, np.int8)}
    model = build(body, {name: np.asarray(value) for name, value in weights.items() if name in body})
    assert names(model) == [expected]
    assert changed(stored(model), stored(next(randomised(model)).model)) == expected


def test_what_cannot_be_randomised_is_said(tmp_path):
    model = cnn("gap")
    with pytest.raises(ModelError, match="is instrumented"):
        randomised(onnx_xcam.instrument(model))
    with pytest.raises(XcamError, match="The order is one of cascading, independent, not 'random'"):
        randomised(model, order="random")  # type: ignore[arg-type]
    with pytest.raises(XcamError, match="steps is 0"):
        randomised(model, steps=0)
    plain = build("p = GlobalAveragePool(image)  logits = Flatten(p)", outputs="float[N,3] logits")
    with pytest.raises(ModelError, match="has no weights between the picture and 'logits'"):
        randomised(plain)
    with pytest.raises(ModelError, match="does not exist"):
        randomised(tmp_path / "m.onnx")


def test_memory_does_not_grow_from_step_to_step():
    depth, width = 12, 256
    body = "f = GlobalAveragePool(image)  x0 = Flatten(f)  x1 = MatMul(x0, w0)"
    body += "".join(f"  x{i + 1} = MatMul(x{i}, w{i})" for i in range(1, depth)) + f"  logits = Relu(x{depth})"
    weights = {"w0": (3, width), **{f"w{i}": (width, width) for i in range(1, depth)}}
    model = build(body, weights, outputs=f"float[N,{width}] logits").SerializeToString()
    steps = randomised(model)
    next(steps)
    tracemalloc.start()
    try:
        assert sum(1 for _ in steps) == depth - 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2.5 * len(model)  # a serialised copy, and the next one while it is still held


def test_the_randomised_model_differs_and_its_weights_do_what_is_said():
    model = cnn("dense")
    image = images()
    last = list(randomised(model))[-1]
    by_hand = onnx.ModelProto()
    by_hand.CopyFrom(model)
    values = stored(last.model)
    for tensor in by_hand.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    assert (run(by_hand, image)["logits"] == run(last.model, image)["logits"]).all()
    assert (weight(model, "d1") != values["d1"]).any()


def test_integer_weights_of_attention_count():
    """Its scales and zero points do not."""
    integers = np.random.default_rng(0).integers(-99, 99, (8, 24)).astype(np.int8)
    scales = np.full(24, 0.01, np.float32)
    body = """
        t = Reshape(image, shape)  q = QuantizeLinear(t, one, za)
        y = com.microsoft.QAttention<num_heads = 2>(q, w, bias, one, ws, , za, zw)
        m = ReduceMean<axes = [1], keepdims = 0>(y)  logits = MatMul(m, fc)"""
    weights = {
        "shape": np.array([0, -1, 8]), "one": np.ones((), np.float32), "za": np.zeros((), np.uint8), "w": integers,
        "bias": (24,), "ws": scales, "zw": np.zeros(24, np.int8), "fc": (8, C),
    }  # fmt: skip
    model = build(body, weights, inputs="float[N,8,8,8] image", imports=', "com.microsoft" : 1')
    assert names(model, score="logits") == [{"fc"}, {"w", "bias"}]
