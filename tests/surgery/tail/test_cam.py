"""The emitted map, status and heat map against slow literal re-implementations of their definitions."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

from helpers.map_cases import ACTS, HEADS, literal_map, status_model
from helpers.models import DENSE_WEIGHTS, GAP_WEIGHTS, C, build, cnn, images, run, weight
from onnx_xcam import instrument
from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.errors import LayerError

# --- the definition, written out -------------------------------------------------------------------------------------


def papers_map(activations, gradients):
    """The paper's formula, for A >= 0: w_k = sum(G A) / sum(A)."""
    result = np.zeros(activations.shape[1:])
    for k, a in enumerate(activations.astype(np.float64)):
        g = gradients[k].astype(np.float64)
        total = sum(a[i, j] for i in range(a.shape[0]) for j in range(a.shape[1]))
        if total:
            w = sum(g[i, j] * a[i, j] for i in range(a.shape[0]) for j in range(a.shape[1])) / total
            result = result + w * a
    return result


def before_relu(made):
    """The model with the map before the ReLU as one more output, and that tensor's name."""
    by_output = {name: node for node in made.graph.node for name in node.output}
    name = "xcam_map"
    while (node := by_output[name]).op_type != "Relu":
        name = node.input[1] if node.op_type == "Where" else node.input[0]
    result = onnx.ModelProto()
    result.CopyFrom(made)
    result.graph.output.append(onnx.ValueInfoProto(name=node.input[0]))
    return result, node.input[0]


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("head", HEADS)
def test_map_is_the_formula(head, act, n):
    text, weights = HEADS[head]
    model = cnn(text, act=ACTS[act], n=n, weights=weights, seed=3)
    made, raw_name = before_relu(instrument(model, layers="a"))
    found = run(made, images(2), [[0, 1, 2, 3, 4]])
    a, g, raw = found["xcam_activations"], found["xcam_gradients"], found[raw_name]
    if (head, act) != ("maximum", "negative"):  # there the maximum is 0, where no share can be
        assert np.abs(found["xcam_map"]).max() > 0
    for i in range(2):
        for k in range(C):
            expected = literal_map(a[i], g[i, k])
            scale = np.abs(expected).max()
            np.testing.assert_allclose(raw[i, k], expected, rtol=1e-5, atol=1e-5 * scale)
            np.testing.assert_allclose(found["xcam_map"][i, k], np.maximum(expected, 0), rtol=1e-5, atol=1e-5 * scale)
            if (a >= 0).all():
                np.testing.assert_allclose(raw[i, k], papers_map(a[i], g[i, k]), rtol=1e-5, atol=1e-5 * scale)
            share = g[i, k].astype(np.float64) * a[i]
            assert abs(raw[i, k].sum(dtype=np.float64) - share.sum()) <= 1e-5 * np.abs(share).sum()
    if act in ("relu", "clip"):
        assert (a >= 0).all()
    elif act != "negative":
        assert (a < 0).any(), "signed maps must be signed, or the test shows nothing"
        assert (a > 0).any()


def test_the_plain_form_is_emitted_where_the_layer_cannot_be_negative():
    """For A >= 0 the paper's formula needs no split: only the one ReLU of the map itself is added."""
    count = {}
    for act, text in ACTS.items():
        made = instrument(cnn("dense", act=text), layers="a", emit=["map"])
        count[act] = sum(n.op_type == "Relu" and n.name.startswith("xcam/") for n in made.graph.node)
    assert count == {"relu": 1, "clip": 1, "signed": 2, "silu": 2, "negative": 2}


NON_NEGATIVE = {
    "relu": ("a = Relu(c2)", True),
    "pooled relu": ("r = Relu(c2) a = MaxPool<kernel_shape=[1,1]>(r)", True),
    "sum of relus": ("r = Relu(c2) s = Sigmoid(c2) a = Add(r, s)", True),
    "relu and signed": ("r = Relu(c2) a = Add(r, c2)", False),
    "relu times signed": ("r = Relu(c2) a = Mul(r, c2)", False),
    "max of relu and signed": ("r = Relu(c2) a = Max(c2, r)", False),
    "concat": ("r = Relu(c2) x, y = Split<axis=1>(r) a = Concat<axis=1>(y, x)", True),
    "concat signed": ("r = Relu(c2) x, y = Split<axis=1>(r) n = Neg(y) a = Concat<axis=1>(n, x)", False),
    "times negative constant": ("r = Relu(c2) k = Constant<value_float=-1.0>() a = Mul(r, k)", False),
    "plus negative constant": ("r = Relu(c2) k = Constant<value_float=-0.3>() a = Add(r, k)", False),
    "clip from -1": ("lo = Constant<value_float=-1.0>() a = Clip(c2, lo)", False),
    "clip above only": ("hi = Constant<value_float=1.0>() a = Clip(c2, , hi)", False),
    "leaky": ("a = LeakyRelu(c2)", False),
    "gathered": ("r = Relu(c2) i = Constant<value_ints=[3,2,1,0]>() a = Gather<axis=1>(r, i)", True),
}


@pytest.mark.parametrize("case", NON_NEGATIVE)
def test_what_is_taken_for_non_negative(case):
    """Taken for non-negative wrongly, a signed layer gets a wrong map: each case against the literal split."""
    act, plain = NON_NEGATIVE[case]
    made = instrument(cnn("dense", act=act, seed=3), layers="a", emit=["map", "activations", "gradients"])
    assert (sum(n.op_type == "Relu" and n.name.startswith("xcam/") for n in made.graph.node) == 1) == plain
    found = run(made, images(1), [[0, 1]])
    for k in range(2):
        expected = np.maximum(literal_map(found["xcam_activations"][0], found["xcam_gradients"][0, k]), 0)
        np.testing.assert_allclose(found["xcam_map"][0, k], expected, rtol=1e-4, atol=1e-5 * expected.max())


@pytest.mark.parametrize("head", ["gap", "dense"])
@pytest.mark.parametrize("n", [2, "N"])
def test_nhwc_layer_gives_the_same_map(head, n):
    """The same network with its layer transposed: A and G in the model's own layout, the map spatial."""
    back = "b = Transpose<perm=[0,3,1,2]>(a) "
    text, weights = {"gap": (GAP_B, GAP_WEIGHTS), "dense": (DENSE_B, DENSE_WEIGHTS)}[head]
    act = "t = Transpose<perm=[0,2,3,1]>(c2)  a = Relu(t) "
    model = cnn(back + text, act=act, n=n, weights=weights)
    plain = cnn(head, n=n)
    made = instrument(model, layers="a", emit=["map", "activations", "gradients", "heatmap", "status"])
    found, expected = run(made, images(2), [[1, -1, 3]]), run(instrument(plain), images(2), [[1, -1, 3]])
    np.testing.assert_array_equal(found["xcam_classes"], expected["xcam_classes"])
    np.testing.assert_allclose(found["xcam_map"], expected["xcam_map"], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["xcam_activations"], expected["xcam_activations"].transpose(0, 2, 3, 1))
    turned = expected["xcam_gradients"].transpose(0, 1, 3, 4, 2)
    np.testing.assert_allclose(found["xcam_gradients"], turned, rtol=1e-5, atol=1e-7)
    assert '"layouts": ["NHWC"]' in made.metadata_props[-1].value


GAP_B = "pooled = GlobalAveragePool(b)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)"
DENSE_B = (
    "flat = Flatten(b)  hidden = Gemm<transB=1>(flat, d1, e1)  active = Relu(hidden) "
    "logits = Gemm<transB=1>(active, d2, e2)"
)


def test_nhwc_mean_over_space():
    """A channels-last network as TensorFlow writes it: the mean over axes 1 and 2."""
    act = "t = Transpose<perm=[0,2,3,1]>(c2)  a = Relu(t) "
    head = "flat = ReduceMean<axes=[1,2], keepdims=0>(a)  logits = Gemm<transB=1>(flat, fc, fb)"
    found = run(instrument(cnn(head, act=act, weights=GAP_WEIGHTS)), images(2))
    expected = run(instrument(cnn("gap")), images(2))
    np.testing.assert_allclose(found["xcam_map"], expected["xcam_map"], rtol=1e-5, atol=1e-7)


def test_numpy_and_emitted_method_are_the_same():
    found = run(instrument(cnn("dense", act=ACTS["silu"]), layers="a"), images(2), [[0, 3]])
    a, g = found["xcam_activations"].astype(np.float64), found["xcam_gradients"].astype(np.float64)
    xp = NumpyArrays()
    raw = map_of(xp, xgrad_cam(xp, a.reshape(2, 4, -1), g.reshape(2, 2, 4, -1), non_negative=False))
    np.testing.assert_allclose(found["xcam_map"].reshape(2, 2, -1), np.maximum(raw, 0), rtol=1e-4, atol=1e-6)


# --- status ----------------------------------------------------------------------------------------------------------


EVERY = ["map", "activations", "gradients", "heatmap", "status"]


@pytest.mark.parametrize("n", [2, "N"])
def test_each_status(n):
    found = run(instrument(status_model(n=n), emit=EVERY), 5 * images(2), [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(found["xcam_status"], [[0, 1, 2, 3, 0]] * 2)
    assert (found["xcam_map"].max((2, 3)) > 0).tolist()[0][:3] == [True, False, False]
    assert not found["xcam_map"][:, 1:3].any()
    assert not found["xcam_heatmap"][:, 1:3].any()
    assert np.isfinite(found["xcam_map"]).all()
    assert np.isfinite(found["xcam_heatmap"]).all()


def test_a_signed_map_that_only_speaks_against_the_class_is_not_empty():
    found = run(instrument(status_model(), emit=["map", "status"], relu=False), 5 * images(2), [[0, 1, 2]])
    assert (found["xcam_map"][:, 1] <= 0).all() and found["xcam_map"][:, 1].any()
    np.testing.assert_array_equal(found["xcam_status"], [[0, 0, 2]] * 2)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("head", ["gap", "dense"])
def test_what_is_not_finite_is_said_and_never_drawn(head, bad):
    """One image of the batch is spoilt; the other one is explained as if alone."""
    image = images(3)
    image[1, 0, 4, 4] = bad
    made = instrument(cnn(head), emit=EVERY)
    with np.errstate(all="ignore"):
        found = run(made, image, [[0, -1]])
    assert found["xcam_status"][1].tolist() == [3, 3]
    for name in ("xcam_map", "xcam_heatmap"):
        assert np.isfinite(found[name]).all(), name
        assert not found[name][1].any()
    for i in (0, 2):
        alone = run(made, image[i : i + 1], [[0, -1]])
        np.testing.assert_allclose(found["xcam_map"][i], alone["xcam_map"][0], rtol=1e-5, atol=1e-7)
        assert (found["xcam_status"][i] != 3).all()


def test_a_gradient_that_is_not_finite_is_said():
    """sqrt at zero: a finite score, an infinite gradient, a dark image."""
    model = cnn("z = Sqrt(a)  pooled = GlobalAveragePool(z)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc)",
                weights={"fc": (C, 4)})  # fmt: skip
    for name in ("b1", "b2"):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tensor.dims, np.float32), name))
    found = run(instrument(model, layers="a", emit=EVERY), np.zeros((1, 3, 12, 12), np.float32), [[0, 1]])
    assert np.isfinite(found["logits"]).all()
    assert found["xcam_status"].tolist() == [[3, 3]]
    assert not found["xcam_map"].any()
    assert not found["xcam_heatmap"].any()


def test_a_dead_layer_is_a_zero_map():
    """A == 0 everywhere: no division by zero, and the status says that the map is empty."""
    model = cnn("dense")
    for tensor in model.graph.initializer:
        if tensor.name in ("w2", "b2"):
            value = np.full(tensor.dims, -1 if tensor.name == "b2" else 0, np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    found = run(instrument(model, emit=EVERY), images(2))
    assert not found["xcam_activations"].any()
    assert found["xcam_gradients"].any()
    np.testing.assert_array_equal(found["xcam_map"], 0)
    np.testing.assert_array_equal(found["xcam_status"], 1)
    np.testing.assert_array_equal(found["xcam_heatmap"], 0)


def test_tiny_activations_are_not_lost():
    """No `+ eps`: a layer of values around 1e-20 gives the map of the same layer at 1, scaled."""
    found = {}
    for factor in (1.0, 1e-20):
        model = cnn("dense")
        for tensor in model.graph.initializer:
            if tensor.name in ("w2", "b2"):
                value = weight(model, tensor.name) * np.float32(factor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
            elif tensor.name == "e1":
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(7, 50, np.float32), tensor.name))
        found[factor] = run(instrument(model), images(1), [[0, 1, 2]])
    np.testing.assert_allclose(found[1e-20]["xcam_map"] * 1e20, found[1.0]["xcam_map"], rtol=1e-4, atol=1e-5)
    assert found[1.0]["xcam_map"].max() > 0


# --- heat map --------------------------------------------------------------------------------------------------------


def drawn(small, size):
    """Resized by OpenCV, then scaled to 0..1."""
    large = cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR)
    low, high = large.min(), large.max()
    return (large - low) / (high - low) if high > low else np.where(large > 0, 1.0, 0.0)


@pytest.mark.parametrize("layer", ["a", "r1"])
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
@pytest.mark.parametrize(("size", "height", "width"), [(12, 12, 12), ("?", 12, 12), ("?", 15, 21), ("?", 9, 30)])
def test_heatmap_is_the_map_resized_and_scaled(layer, opset, size, height, width):
    model = cnn("gap", size=size, opset=opset)
    image = np.random.default_rng(2).normal(size=(2, 3, height, width)).astype(np.float32)
    found = run(instrument(model, layers=layer, emit=["map", "heatmap"]), image, [[0, 1, 2, 3, 4]])
    assert found["xcam_heatmap"].shape == (2, 5, height, width)
    shown = 0
    for i in range(2):
        for k in range(5):
            small, large = found["xcam_map"][i, k], found["xcam_heatmap"][i, k]
            np.testing.assert_allclose(large, drawn(small, (height, width)), atol=2e-5)
            if small.any():
                shown += 1
                assert (large.min(), large.max()) == (0, 1)
    assert shown >= 2


def flat_model(value, weights, *, side, image):
    """A model whose map of class 0 is `value` at each of side x side points, whatever the image."""
    body = """
      p = Resize<mode="nearest">(image, , , to)  z = Sub(p, p)  a = Add(z, level)
      pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = Gemm(flat, fc)
    """
    more = {
        "to": np.array([1, 3, side, side]),
        "level": np.full((1, 3, 1, 1), value, np.float32),
        "fc": np.array(weights, np.float32),
    }
    return build(body, more, inputs=f"float[1,3,{image},{image}] image", outputs="float[1,2] logits")


@pytest.mark.parametrize("side", [3, 6, 7])
@pytest.mark.parametrize("image", [12, 29, 64])
@pytest.mark.parametrize("value", [0.1, 1 / 3, 0.7, 123.456])
def test_flat_heatmaps(value, side, image):
    """The same positive number everywhere is 1 everywhere, and never the rounding noise of the resize; zero is 0."""
    model = flat_model(value, [[1, -1], [0.3, -0.2], [0.01, -0.7]], side=side, image=image)
    found = run(instrument(model, layers="a", emit=["map", "heatmap"]), images(1, image), [[0, 1]])
    assert np.ptp(found["xcam_map"][0, 0]) == 0
    assert found["xcam_map"][0, 0].min() > 0
    np.testing.assert_array_equal(found["xcam_heatmap"][0, 0], 1)
    np.testing.assert_array_equal(found["xcam_heatmap"][0, 1], 0)


@pytest.mark.parametrize("n", [2, "N"])
def test_heatmap_of_a_channels_last_input(n):
    model = build(
        "x = Transpose<perm=[0,3,1,2]>(image)  c = Conv<strides=[3,3]>(x, w)  a = Relu(c) "
        "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)",
        {"w": (4, 3, 3, 3), **GAP_WEIGHTS},
        inputs=f"float[{n},15,24,3] image",
        outputs=f"float[{n},{C}] logits",
    )
    image = np.random.default_rng(0).normal(size=(2, 15, 24, 3)).astype(np.float32)
    found = run(instrument(model, emit=["map", "heatmap"]), image, [[0, 1]])
    assert found["xcam_heatmap"].shape == (2, 2, 15, 24)
    for i in range(2):
        for k in range(2):
            np.testing.assert_allclose(found["xcam_heatmap"][i, k], drawn(found["xcam_map"][i, k], (15, 24)), atol=2e-5)


def test_heatmap_without_an_image_input():
    model = build(
        "r = Reshape(x, to)  a = Relu(r)  f = Flatten(a)  logits = Gemm(f, fc)",
        {"to": np.array([-1, 2, 4, 4]), "fc": (32, C)},
        inputs="float[N,32] x",
    )
    with pytest.raises(LayerError, match="heat map"):
        instrument(model, layers="a", emit=["heatmap"])
