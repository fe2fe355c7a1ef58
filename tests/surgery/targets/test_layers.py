"""Target layers: the default by shape and connectivity, and what a name means."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, C, build, cnn, images, props, run, tensors
from onnx_xcam import inspect, instrument
from onnx_xcam.errors import LayerError, UnsupportedOpError
from onnx_xcam.surgery.analysis.prepare import module_path, prepare
from onnx_xcam.surgery.targets.classification import find_score
from onnx_xcam.surgery.targets.layer_names import resolve
from onnx_xcam.surgery.targets.layers import Layers


def found(model, wanted="auto"):
    graph = prepare(model)
    score = find_score(graph)
    return [layer.name for layer, _ in resolve(Layers(graph, score.name), wanted, score.default_layers)]


# --- the default -----------------------------------------------------------------------------------------------------

W33 = {"w3": (4, 4, 3, 3), "b3": (4,)}
CONV3 = "c3 = Conv<pads=[1,1,1,1]>({}, w3, b3) "
BN_W = {"s": np.ones(4, np.float32), "o": np.zeros(4, np.float32), "m": np.zeros(4, np.float32),
        "v": np.ones(4, np.float32)}  # fmt: skip
BN8 = {name: np.concatenate([value, value]) for name, value in BN_W.items()}
HEAD = GAP.replace("(a)", "(last)")

DEFAULTS = {
    "plain": ("last = Relu(c2) " + HEAD, {}, "last"),
    "residual": ("r2 = Relu(c2) " + CONV3.format("r2") + "sum = Add(c3, r2)  last = Relu(sum) " + HEAD, W33, "last"),
    "residual without activation": ("r2 = Relu(c2) " + CONV3.format("r2") + "last = Add(c3, r2) " + HEAD, W33, "last"),
    "pre-activation residual": (
        "r2 = Relu(c2) " + CONV3.format("r2") + "sum = Add(c3, c2)  n = BatchNormalization(sum, s, o, m, v) "
        "last = Relu(n) " + HEAD, W33 | BN_W, "last"),
    "dense": (
        "r2 = Relu(c2) " + CONV3.format("r2") + "cat = Concat<axis=1>(c2, c3)  n = BatchNormalization(cat, s, o, m, v) "
        "last = Relu(n) " + HEAD, W33 | BN8 | {"fc": (C, 8)}, "last"),
    "inception": (
        "x1 = Relu(c2) " + CONV3.format("x1") + "x2 = Relu(c3)  q = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x1) "
        "last = Concat<axis=1>(x1, x2, q) " + HEAD, W33 | {"fc": (C, 12)}, "last"),
    "squeeze-excite": (
        "r2 = Relu(c2)  g = GlobalAveragePool(r2)  e1 = Conv(g, se1)  e2 = Relu(e1)  e3 = Conv(e2, se2)  "
        "e4 = Sigmoid(e3)  last = Mul(r2, e4) " + HEAD, {"se1": (2, 4, 1, 1), "se2": (4, 2, 1, 1)}, "last"),
    "squeeze-excite by ReduceMean": (
        "r2 = Relu(c2)  g = ReduceMean<axes=[2,3]>(r2)  e1 = Conv(g, se1)  e2 = Relu(e1)  e3 = Conv(e2, se2)  "
        "e4 = HardSigmoid(e3)  last = Mul(e4, r2) " + HEAD, {"se1": (2, 4, 1, 1), "se2": (4, 2, 1, 1)}, "last"),
    "hard-swish": ("last = HardSwish(c2) " + HEAD, {}, "last"),
    "hard-swish in parts": (
        "three = Constant<value_float=3.0>()  zero = Constant<value_float=0.0>()  six = Constant<value_float=6.0>()  "
        "h1 = Add(c2, three)  h2 = Clip(h1, zero, six)  h3 = Mul(c2, h2)  last = Div(h3, six) " + HEAD, {}, "last"),
    "silu in parts": ("h = Sigmoid(c2)  last = Mul(c2, h) " + HEAD, {}, "last"),
    "gelu in parts": (
        "q = Constant<value_float=1.4142135>()  half = Constant<value_float=0.5>()  one = Constant<value_float=1.0>() "
        "d = Div(c2, q)  e = Erf(d)  f = Add(e, one)  g = Mul(c2, f)  last = Mul(g, half) " + HEAD, {}, "last"),
    "class map with activation": (
        "r2 = Relu(c2)  k = Conv(r2, w5)  last = Relu(k)  p = GlobalAveragePool(last)  logits = Flatten(p)",
        {"w5": (C, 4, 1, 1)}, "last"),
    "class map with dropout": (
        "r2 = Relu(c2)  d = Dropout(r2)  last = Conv(d, w5)  p = GlobalAveragePool(last)  logits = Flatten(p)",
        {"w5": (C, 4, 1, 1)}, "last"),
    "convolution behind the pool": (
        "last = Relu(c2)  p = GlobalAveragePool(last)  k = Conv(p, w5)  h = HardSwish(k)  logits = Flatten(h)",
        {"w5": (C, 4, 1, 1)}, "last"),
    "flatten and dense": (
        "r2 = Relu(c2)  last = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)  "
        "flat = Flatten(last)  logits = Gemm<transB=1>(flat, fc, fb)", {"fc": (C, 36)}, "last"),
    "flatten by Reshape": (
        "last = Relu(c2)  flat = Reshape(last, to)  logits = Gemm<transB=1>(flat, fc, fb)",
        {"fc": (C, 144), "to": np.array([-1, 144])}, "last"),
    "adaptive pool that keeps the size": (
        "r2 = Relu(c2)  last = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r2)  "
        "ad = AveragePool<kernel_shape=[1,1], strides=[1,1]>(last)  i = Identity(ad)  "
        "flat = Flatten(i)  logits = Gemm<transB=1>(flat, fc, fb)", {"fc": (C, 36)}, "last"),
    "average pool": (
        "last = Relu(c2)  pooled = AveragePool<kernel_shape=[6,6]>(last)  flat = Flatten(pooled)  "
        "logits = Gemm<transB=1>(flat, fc, fb)", {}, "last"),
    "mean": ("last = Relu(c2)  flat = ReduceMean<axes=[2,3], keepdims=0>(last)  logits = Gemm<transB=1>(flat, fc, fb)",
             {}, "last"),
    "mean kept": ("last = Relu(c2)  p = ReduceMean<axes=[-1,-2]>(last)  flat = Squeeze(p, ax) "
                  "logits = Gemm<transB=1>(flat, fc, fb)", {"ax": np.array([2, 3])}, "last"),
    "mean of tokens": (
        "last = Relu(c2)  t = Reshape(last, to)  flat = ReduceMean<axes=[2], keepdims=0>(t) "
        "logits = Gemm<transB=1>(flat, fc, fb)", {"to": np.array([0, 4, 36])}, "last"),
    "average and maximum": (
        "last = Relu(c2)  p = GlobalAveragePool(last)  q = GlobalMaxPool(last)  pq = Concat<axis=1>(p, q)  "
        "flat = Flatten(pq)  logits = Gemm<transB=1>(flat, fc, fb)", {"fc": (C, 8)}, "last"),
    "dropout before the pool": ("last = Relu(c2)  d = Dropout(last)  i = Identity(d) " + GAP.replace("(a)", "(i)"),
                                {}, "last"),
    "normalised after": ("r2 = Relu(c2)  last = BatchNormalization(r2, s, o, m, v) " + HEAD, BN_W, "last"),
    "softmax at the end": (
        "last = Relu(c2) " + HEAD.replace("logits", "z") + " logits = Softmax<axis=1>(z)", {}, "last"),
    "channels last": (
        "t = Transpose<perm=[0,2,3,1]>(c2)  last = Relu(t)  flat = ReduceMean<axes=[1,2], keepdims=0>(last)  "
        "logits = Gemm<transB=1>(flat, fc, fb)", {}, "last"),
}  # fmt: skip


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("case", DEFAULTS)
def test_default_layer(case, n, batch):
    """Chosen by shape and connectivity: the nodes of these models have no names."""
    text, weights, expected = DEFAULTS[case]
    model = cnn(text, act="", n=n, weights={**GAP_WEIGHTS, **weights})
    assert not any(node.name for node in model.graph.node)
    assert found(model) == [expected]
    result = run(instrument(model), batch, [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(result["xcam_activations"], tensors(model, [expected], batch)[expected])
    assert result["xcam_map"].any()


@pytest.mark.parametrize("renamed", [False, True])
def test_names_play_no_part_in_the_default(renamed):
    """The same model with every tensor renamed so that names mislead."""
    model = cnn(DEFAULTS["residual"][0], act="", weights={**GAP_WEIGHTS, **W33})
    new = {"last": "input_pool", "c1": "layer4_last_features", "r1": "final_relu", "sum": "map"} if renamed else {}
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
        node.name = "last_" + node.output[0] if renamed else ""
    assert found(model) == [new.get("last", "last")]


SYMBOLIC = ["plain", "residual", "dense", "inception", "squeeze-excite", "hard-swish", "class map with activation",
            "convolution behind the pool", "mean", "average and maximum", "dropout before the pool",
            "squeeze-excite by ReduceMean", "channels last"]  # fmt: skip


@pytest.mark.parametrize("case", SYMBOLIC)
def test_default_layer_with_symbolic_height_and_width(case):
    text, weights, expected = DEFAULTS[case]
    model = cnn(text, act="", size="?", weights={**GAP_WEIGHTS, **weights})
    assert found(model) == [expected]
    fixed = cnn(text, act="", weights={**GAP_WEIGHTS, **weights})
    image = images(2)
    result, same = run(instrument(model), image, [[0, -1]]), run(instrument(fixed), image, [[0, -1]])
    for name in same:
        np.testing.assert_allclose(result[name], same[name], rtol=1e-5, atol=1e-6)
    other = run(instrument(model), np.random.default_rng(0).normal(size=(3, 3, 17, 22)).astype(np.float32))
    assert other["xcam_map"].shape == (3, 1, 8, 11)


@pytest.mark.parametrize("before", ["x = Identity(image)", "h = Constant<value_float=0.5>()  x = Mul(image, h)"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_picture_as_wide_as_channels_are_many_is_read_as_the_convolution_reads_it(before, kernel):
    """[N,2,8,4] may be eight rows of two RGBA pixels, but no convolution reads channels on the last axis."""
    model = build(
        f'{before}  last = Conv<auto_pad="SAME_UPPER">(x, w)  p = GlobalAveragePool(last)  f = Flatten(p)  '
        "logits = Gemm<transB=1>(f, fc)",
        {"w": (4, 2, kernel, kernel), "fc": (C, 4)},
        inputs="float[N,2,8,4] image",
    )
    assert found(model) == ["last"]
    assert found(model, "last") == ["last"]


def test_paths_are_counted_through_what_a_branch_reads():
    """What stands behind an If lies in two trunks here, and so is no default: neither holds all that the score gets."""
    model = cnn(
        "u = Relu(o)  v = Abs(o)  g = GlobalAveragePool(u)  h = GlobalMaxPool(v)  "
        "s = Concat<axis=1>(g, h)  flat = Flatten(s)  logits = Gemm<transB=1>(flat, fc)",
        weights={"fc": (C, 8)},
        act="a = Relu(c2)  o = If(flag) <then_branch = t () => (float[N,4,6,6] p) { p = Abs(a) }, "
        "else_branch = e () => (float[N,4,6,6] q) { q = Neg(a) }>",
        image="float[N,3,12,12] image, bool flag",
    )
    assert found(model) == ["o"]


def test_average_pool_of_unknown_size_is_no_default():
    """`AveragePool` down to an unknown size may have pooled space away; with H and W symbolic that is what it does."""
    text, weights, expected = DEFAULTS["average pool"]
    assert found(cnn(text, act="", size="?", weights={**GAP_WEIGHTS, **weights})) == [expected]


def test_of_two_trunks_the_end_of_the_busier_one():
    """No layer carries all: the default is where most passes through last, not one of the values made of it."""
    pools = "  ".join(f"p_{name} = GlobalAveragePool({name})  f_{name} = Flatten(p_{name})" for name in "abkv")
    model = build(
        "c1 = Conv(image, w)  a = Relu(c1)  c2 = Conv(image, w2)  b = Relu(c2)  k = Conv(b, w3)  v = Conv(b, w4)  "
        f"{pools}  all = Concat<axis=1>(f_a, f_b, f_k, f_v)  logits = MatMul(all, fc)",
        {"w": (4, 3, 3, 3), "w2": (4, 3, 3, 3), "w3": (4, 4, 1, 1), "w4": (4, 4, 1, 1), "fc": (16, C)},
        inputs="float[N,3,12,12] image",
    )
    report = inspect(model)
    assert [layer.name for layer in report.layers if layer.default] == ["b"]
    assert any("no layer carries all that the score gets from the image, this one a part" in n for n in report.notes)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (build("h = Gemm(x, w)  r = Relu(h)  logits = Gemm(r, v)", {"w": (8, 6), "v": (6, C)}, inputs="float[N,8] x"),
         r"No spatial layer.*takes 'x' float32 \[N,8\], rows of numbers"),
        (build("c = Conv(x, w)  r = Relu(c)  p = GlobalAveragePool(r)  f = Flatten(p)  logits = Gemm(f, v)",
               {"w": (4, 1, 9), "v": (4, C)}, inputs="float[N,1,100] x"), "No spatial layer"),
        (build("c = Conv(x, w)  r = Relu(c)  p = GlobalAveragePool(r)  f = Flatten(p)  logits = Gemm(f, v)",
               {"w": (4, 1, 3, 3, 3), "v": (4, C)}, inputs="float[N,1,8,8,8] x"), "No spatial layer"),
        (build("c = Conv(x, w)  r = Relu(c)  f = Flatten(r)  logits = Gemm(f, v)",
               {"w": (4, 3, 1, 1), "v": (4, C)}, inputs="float[N,3,1,1] x"), "No spatial layer"),
        (build("e = Gather(table, x)  n = LayerNormalization(e, g)  t = Transpose<perm=[0,2,1]>(n)  s = MatMul(n, t)  "
               "p = Softmax<axis=-1>(s)  a = MatMul(p, n)  m = ReduceMean<axes=[1], keepdims=0>(a)  "
               "logits = MatMul(m, v)",
               {"table": (50, 8), "g": (8,), "v": (8, C)}, inputs="int64[N,12] x"),
         r"No spatial layer.*the model takes 'x' int64 \[N,12\]"),
    ],
    ids=["tabular", "audio", "volume", "one pixel", "text"],
)  # fmt: skip
def test_no_spatial_layer(model, said):
    onnx.checker.check_model(model, full_check=True)
    with pytest.raises(LayerError, match=said):
        instrument(model)


# --- by name ---------------------------------------------------------------------------------------------------------

NAMES = {
    "c1": "/stem/conv/Conv", "r1": "/stem/act/Relu", "p1": "/stem/pool/MaxPool",
    "c2": "/layer1/layer1.0/conv1/Conv", "r2": "/layer1/layer1.0/relu/Relu",
    "c3": "/layer1/layer1.1/conv1/Conv", "s3": "/layer1/layer1.1/Add", "a": "/layer1/layer1.1/relu/Relu",
    "pooled": "/avgpool/GlobalAveragePool", "flat": "/Flatten", "logits": "/fc/Gemm",
}  # fmt: skip
PATHS = {
    "c1": "stem.conv", "r1": "stem.act", "p1": "stem.pool", "c2": "layer1.0.conv1", "r2": "layer1.0.relu",
    "c3": "layer1.1.conv1", "s3": "layer1.1", "a": "layer1.1.relu", "pooled": "avgpool", "logits": "fc",
}  # fmt: skip


def torch_model(exporter):
    """A small residual network with the names that PyTorch's exporters give."""
    model = cnn(
        GAP,
        act="r2 = Relu(c2) " + CONV3.format("r2") + "s3 = Add(c3, r2)  a = Relu(s3)",
        weights={**GAP_WEIGHTS, **W33},
    )
    for index, node in enumerate(model.graph.node):
        made = node.output[0]
        if exporter == "script":
            node.name = NAMES[made]
        else:
            node.name = f"node_{node.op_type}_{index}"
            path = PATHS.get(made, "")
            scopes = ["", *[".".join(path.split(".")[: i + 1]) for i in range(len(path.split("."))) if path], made]
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(scopes))
    return model


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize(
    ("wanted", "layer"),
    [
        ("a", "a"),
        ("c2", "c2"),
        ("stem", "p1"),
        ("stem.act", "r1"),
        ("layer1", "a"),
        ("layer1.0", "r2"),
        ("layer1.1", "a"),
        ("layer1.0.relu", "r2"),
        ("layer1.1.conv1", "c3"),
        ("1.0.rel", "r2"),
        ("m.po", "p1"),
        ("auto", "a"),
    ],
)
def test_module_paths(exporter, wanted, layer):
    model = torch_model(exporter)
    assert found(model, wanted) == [layer]
    assert f'"layers": ["{layer}"]' in props(instrument(model, layers=wanted, emit=["map"]))[-1][1]


def test_node_names():
    assert found(torch_model("script"), "/layer1/layer1.0/relu/Relu") == ["r2"]
    assert found(torch_model("script"), "layer1.0/relu") == ["r2"], "a unique part of a node's name"
    assert found(torch_model("dynamo"), "node_Relu_4") == ["r2"]


def test_a_whole_name_goes_before_a_part_of_one():
    """`c` is a part of many names, but the name of one tensor."""
    model = torch_model("script")
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["conv" if name == "c2" else name for name in names]
    assert found(model, "conv") == ["conv"]


def test_the_path_is_said():
    notes = props(instrument(torch_model("dynamo")))[-1][1]
    assert "layer1.1.relu" in notes
    assert "[N,4,6,6]" in notes


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("relu", r"'relu' fits 2 layers.*'layer1.0.relu', 'layer1.1.relu'"),
        ("layer", r"'layer' fits 5 layers, among them"),
        ("layer1.0.rellu", r"no layer 'layer1.0.rellu' \(did you mean 'layer1.0.relu'"),
        ("zzz", r"no layer 'zzz'; 'onnx-xcam inspect' lists the layers"),
        ("LAYER1", "no layer 'LAYER1'"),
        ("image", r"'image' is an input of the model, not a layer; the default would be 'layer1.1.relu'"),
        ("w1", "w1"),
        ("logits", r"'logits' is not a spatial layer: its shape is \['N', 5\]; the default"),
        ("fc", r"'fc' \(tensor 'logits'\) is not a spatial layer"),
        ("/Flatten", r"'/Flatten' \(tensor 'flat'\) is not a spatial layer"),
        ("pooled", r"'pooled' is not a spatial layer any more: its shape is \['N', 4, 1, 1\]"),
        ("avgpool", r"'avgpool' \(tensor 'pooled'\) is not a spatial layer any more"),
    ],
)
def test_names_that_do_not_fit(wanted, said):
    with pytest.raises(LayerError, match=said):
        instrument(torch_model("script"), layers=wanted)


def test_named_twice():
    for names in (["a", "a"], ["a", "layer1.1"], ["auto", "a"]):
        with pytest.raises(LayerError, match="'a' was named twice"):
            instrument(torch_model("script"), layers=names)


def test_auto_among_others(batch):
    assert found(torch_model("script"), ["r1", "auto"]) == ["r1", "a"]


BRANCHES = {
    "side branch": ("a = Relu(c2)  side = Conv<pads=[1,1,1,1]>(p1, w2, b2)  out2 = Identity(side) " + GAP, "side"),
    "only by its sign": ("side = Relu(c2)  g = Sign(side)  a = Mul(g, c2) " + GAP, "side"),
    "only by a comparison": (
        "zero = Constant<value_float=0.0>()  side = Relu(c2)  g = Greater(side, zero)  a = Where(g, c2, zero) " + GAP,
        "side",
    ),
    "behind the score": (GAP.replace("(a)", "(c2)") + " a = Relu(c2)  side = Conv<pads=[1,1,1,1]>(p1, w2, b2)", "a"),
}


@pytest.mark.parametrize("case", BRANCHES)
def test_the_score_does_not_depend_on_the_layer(case):
    text, layer = BRANCHES[case]
    model = cnn(text, act="", weights=GAP_WEIGHTS)
    with pytest.raises(LayerError, match=f"score 'logits' does not depend on '{layer}' by a gradient; the default"):
        instrument(model, layers=layer)


def test_integer_tensors_are_no_layers():
    model = cnn("i = Cast<to=7>(c2)  f = Cast<to=1>(i)  a = Add(f, c2) " + GAP, act="", weights=GAP_WEIGHTS)
    with pytest.raises(LayerError, match="'i' holds int64 values"):
        instrument(model, layers="i")
    assert found(model) == ["a"]


def test_layers_in_two_branches(batch):
    """Neither layer comes before the other: each gets its own gradient, of the whole score."""
    text = "x = Relu(c2)  y = Sigmoid(c2)  a = Add(x, y) " + GAP
    model = cnn(text, act="", weights=GAP_WEIGHTS)
    both = run(instrument(model, layers=["x", "y", "c2"]), batch, [[0, 1]])
    for index, layer in enumerate(["x", "y", "c2"]):
        alone, end = run(instrument(model, layers=layer), batch, [[0, 1]]), f"_{index}" if index else ""
        for kind in ("map", "gradients", "activations"):
            np.testing.assert_allclose(both[f"xcam_{kind}{end}"], alone[f"xcam_{kind}"], rtol=1e-5, atol=1e-7)
    y = both["xcam_activations_1"]
    c2 = both["xcam_activations_2"]
    through = both["xcam_gradients"] * (c2 > 0)[:, None] + both["xcam_gradients_1"] * (y * (1 - y))[:, None]
    np.testing.assert_allclose(both["xcam_gradients_2"], through, rtol=1e-4, atol=1e-7)


# --- operators in the way --------------------------------------------------------------------------------------------


def blocked():
    """Two operators without a rule between r1 and a, one of them twice; from r3 on everything works.

    What a foreign operator does to places is not known; r2, which goes round it, says where those of r3 lie.
    """
    text = """
      d1 = Det(c2)  u = Unsqueeze(d1, ax)  r2 = Mul(c2, u)  d2 = Det(r2)  u2 = Unsqueeze(d2, ax)
      q = my.Strange(r2)  s = Add(q, u2)  r3 = Add(s, r2)  a = Relu(r3)
    """
    model = cnn(GAP, act=text, weights={**GAP_WEIGHTS, "ax": np.array([2, 3])})
    model.opset_import.add(domain="my", version=1)
    for node in model.graph.node:
        if node.op_type in ("Det", "Strange") and node.output[0] != "d2":
            node.name = f"the_{node.op_type}"
    info = [onnx.helper.make_tensor_value_info(name, 1, ["N", 4, 6, 6]) for name in ("q", "r3", "a")]
    model.graph.value_info.extend(info)
    return model


@pytest.mark.parametrize("layer", ["r1", "c1", "c2"])
def test_every_operator_in_the_way_is_named_and_the_nearest_layer_that_works(layer):
    with pytest.raises(UnsupportedOpError) as caught:
        instrument(blocked(), layers=layer)
    text = str(caught.value)
    assert "Det: 'the_Det', 'd2'" in text
    assert "my.Strange: 'the_Strange'" in text
    assert "The nearest layer that works is 'r3'" in text


def test_only_what_lies_behind_the_layer_must_have_a_rule():
    assert found(blocked()) == ["a"]
    made = instrument(blocked(), layers="r3")
    assert '"layers": ["r3"]' in props(made)[-1][1]
    with pytest.raises(UnsupportedOpError) as caught:
        instrument(blocked(), layers="r2")
    assert "the_Det" not in str(caught.value), "the first Det lies before this layer"
    assert "'d2'" in str(caught.value)


def test_no_later_layer_works():
    model = cnn(GAP.replace("Flatten", "my.Strange"), weights=GAP_WEIGHTS)
    model.opset_import.add(domain="my", version=1)
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("flat", 1, ["N", 4]))
    with pytest.raises(UnsupportedOpError, match=r"my.Strange: 'flat'.*No later layer works either"):
        instrument(model)


def test_an_unsupported_operator_off_the_way_does_not_matter(batch):
    text = TRUNK.replace("r1 = Relu(c1)", "r0 = Relu(c1)  e = Det(r0)  ue = Unsqueeze(e, ax)  r1 = Add(r0, ue)")
    model = cnn("gap", weights={"ax": np.array([2, 3])})
    other = build(
        text + "a = Relu(c2) " + GAP,
        {**{t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}},
    )
    before = run(other, batch)["logits"]
    np.testing.assert_array_equal(run(instrument(other), batch)["logits"], before)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("/layer4/layer4.2/relu/Relu", "layer4.2.relu"),
        ("fused /classifier/classifier.3/Gemm", "classifier.3"),
        ("/blocks.0/activation/Mul/QuickGeluFusion/", "blocks.0.activation"),
        ("/attn/MatMul/MatMulScaleFusion//MatmulTransposeFusion/", "attn"),
        ("/norm/Mul/LayerNormFusion/:3", "norm"),
        ("/head/Gemm/MatMulAddFusion", "head"),
        ("/fusion/Conv", "fusion"),
        ("BiasGelu_token_119", ""),
    ],
)
def test_module_paths_of_fused_nodes(name, path):
    assert module_path(onnx.helper.make_node("Relu", ["x"], ["y"], name=name)) == path
