"""Every method against a slow literal re-implementation of its paper's formula, in numpy and as emitted nodes."""

from __future__ import annotations

import cv2
import numpy as np
import onnx
import pytest

from helpers.map_cases import ACTS, HEADS, literal_local_map, literal_map, status_model
from helpers.models import C, cnn, images, run, weight
from onnx_xcam import XcamError, instrument
from onnx_xcam.cams import gradient_free
from onnx_xcam.cams.contributions import map_of, shares_of
from onnx_xcam.cams.fusion import fused
from onnx_xcam.cams.methods import EMITTED, METHODS, find_method
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.metadata import Metadata

XP = NumpyArrays()

# --- the definitions, written out: of A and G `[C,h,w]` of one image and class the map before the ReLU, `[h,w]` ------


def literal_grad_cam(a, g):
    return sum(g[k].mean() * a[k] for k in range(len(a)))


def literal_grad_cam_plus_plus(a, g):
    result = np.zeros(a.shape[1:])
    for k in range(len(a)):
        w = 0.0
        for slope in g[k].ravel():
            if slope > 0:
                w += slope**2 / (2 * slope**2 + a[k].sum() * slope**3) * slope
        result += w * a[k]
    return result


def literal_hires_cam(a, g):
    return sum(g[k] * a[k] for k in range(len(a)))


def literal_layer_cam(a, g):
    return sum(np.maximum(g[k], 0) * a[k] for k in range(len(a)))


def literal_elementwise(a, g):
    return sum(np.maximum(g[k] * a[k], 0) for k in range(len(a)))


LITERAL = {
    "xgrad-cam": literal_map,
    "local-xgrad-cam": literal_local_map,
    "grad-cam": literal_grad_cam,
    "grad-cam++": literal_grad_cam_plus_plus,
    "hires-cam": literal_hires_cam,
    "layer-cam": literal_layer_cam,
    "elementwise-grad-cam": literal_elementwise,
}


def test_every_method_of_one_run_has_its_literal_form():
    assert set(LITERAL) == {name for name in EMITTED if not METHODS[name].is_guided}


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("act", ["relu", "signed", "negative"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("method", LITERAL)
def test_the_emitted_map_is_the_papers_formula(method, head, act, n):
    text, weights = HEADS[head]
    model = cnn(text, act=ACTS[act], n=n, weights=weights, seed=3)
    found = run(instrument(model, layers="a", method=method, relu=False), images(2), [[0, 1, 2, 3, 4]])
    a, g = found["xcam_activations"].astype(np.float64), found["xcam_gradients"].astype(np.float64)
    for i in range(2):
        for k in range(C):
            expected = LITERAL[method](a[i], g[i, k])
            scale = np.abs(expected).max() * condition(method, a[i], g[i, k])
            np.testing.assert_allclose(found["xcam_map"][i, k], expected, rtol=1e-4, atol=2e-5 * scale)


def condition(method, a, g):
    """How much a rounding error grows: Grad-CAM++ divides by what comes near zero where A is signed."""
    if method != "grad-cam++":
        return 1.0
    return float((2 / np.abs(2 + a.sum((1, 2), keepdims=True) * np.maximum(g, 0))).max().clip(1))


@pytest.mark.parametrize("non_negative", [False, True])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("method", LITERAL)
def test_the_numpy_map_is_the_papers_formula_and_the_shares_add_up_to_it(method, constant, non_negative):
    rng = np.random.default_rng(5)
    a, g = rng.normal(size=(2, 4, 15)), rng.normal(size=(2, 3, 4, 1 if constant else 15))
    a = np.abs(a) if non_negative else a
    contributions = METHODS[method].formula(XP, a, g, non_negative=non_negative)
    raw, shares = map_of(XP, contributions), shares_of(XP, contributions)
    whole = np.broadcast_to(g, (2, 3, 4, 15))
    for i in range(2):
        for k in range(3):
            expected = LITERAL[method](a[i].reshape(4, 3, 5), whole[i, k].reshape(4, 3, 5))
            np.testing.assert_allclose(raw[i, k].reshape(3, 5), expected, rtol=1e-9, atol=1e-9)
            for c in range(4):
                alone = LITERAL[method](a[i, c].reshape(1, 3, 5), whole[i, k, c].reshape(1, 3, 5))
                np.testing.assert_allclose(shares[i, k, c], alone.sum(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", LITERAL)
def test_what_a_method_promises_of_its_sum(method):
    """XGrad-CAM, local XGrad-CAM and HiResCAM sum to sum(G A), the others do not."""
    rng = np.random.default_rng(6)
    a, g = np.abs(rng.normal(size=(1, 4, 15))), rng.normal(size=(1, 1, 4, 15))
    raw = map_of(XP, METHODS[method].formula(XP, a, g, non_negative=True))
    assert (abs(raw.sum() - (g[:, 0] * a).sum()) < 1e-9) == METHODS[method].conserves


def test_grad_cam_plus_plus_of_tiny_gradients():
    """Where the peers' `+ eps` would be all that is left of the divisor."""
    rng = np.random.default_rng(0)
    a, g = np.abs(rng.normal(size=(1, 3, 6))), rng.normal(size=(1, 1, 3, 6)) * 1e-12
    raw = map_of(XP, METHODS["grad-cam++"].formula(XP, a, g, non_negative=True))
    np.testing.assert_allclose(raw[0, 0], 0.5 * (np.maximum(g[0, 0], 0).sum(-1, keepdims=True) * a[0]).sum(0))


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spelled", "name"),
    [
        ("XGradCAM", "xgrad-cam"),
        ("Local XGradCAM", "local-xgrad-cam"),
        ("GradCAM++", "grad-cam++"),
        ("gradcampp", "grad-cam++"),
        ("GradCAMPlusPlus", "grad-cam++"),
        ("grad_cam", "grad-cam"),
        ("HiResCAM", "hires-cam"),
        ("layercam", "layer-cam"),
        ("GradCAMElementWise", "elementwise-grad-cam"),
        ("Eigen-CAM", "eigen-cam"),
        ("ScoreCAM", "score-cam"),
    ],
)
def test_other_spellings_of_a_method(spelled, name):
    assert find_method(spelled).name == name
    if name in EMITTED:
        made = instrument(cnn("gap"), method=spelled, emit=["map"])
        assert Metadata.from_json(made.metadata_props[-1].value).method == name


def test_a_method_that_is_none():
    with pytest.raises(XcamError, match="no method 'grad'; there are xgrad-cam, local-xgrad-cam, grad-cam"):
        instrument(cnn("gap"), method="grad")


@pytest.mark.parametrize("method", ["eigen-cam", "ablation-cam", "score-cam", "ScoreCAM"])
def test_what_takes_more_than_one_run_cannot_be_put_into_a_model(method):
    with pytest.raises(XcamError, match=r"CAM cannot be put into a model: .*What a model can carry: xgrad-cam"):
        instrument(cnn("gap"), method=method)


# --- methods without gradients ---------------------------------------------------------------------------------------


def test_eigen_cam_is_the_first_principal_direction():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(2, 5, 12)).astype(np.float32)
    raw = map_of(XP, gradient_free.eigen_cam(a, 3))
    assert raw.shape == (2, 3, 12)
    for i in range(2):
        centred = a[i].astype(np.float64) - a[i].mean(1, keepdims=True)
        values, vectors = np.linalg.eigh(centred @ centred.T)
        expected = vectors[:, np.argmax(values)] @ centred
        strength = np.abs(a[i]).sum(0)
        expected *= np.sign(np.corrcoef(expected, strength)[0, 1])
        np.testing.assert_allclose(raw[i], np.broadcast_to(expected, (3, 12)), rtol=1e-4, atol=1e-5)


def test_eigen_cam_of_a_layer_that_does_not_vary():
    assert not map_of(XP, gradient_free.eigen_cam(np.ones((1, 3, 4), np.float32), 1)).any()


def test_ablation_cam_weighs_by_what_the_score_loses():
    a = np.arange(12, dtype=np.float64).reshape(1, 2, 6)
    raw = map_of(XP, gradient_free.ablation_cam(a, np.array([[4.0, -2.0]]), np.array([[[1.0, 5.0], [-3.0, -2.0]]])))
    np.testing.assert_allclose(raw[0, 0], 0.75 * a[0, 0] - 0.25 * a[0, 1])
    np.testing.assert_allclose(
        raw[0, 1], 0.5 * a[0, 0], err_msg="what lowers a negative score when removed, supports it"
    )


def test_score_cam_weighs_by_the_softmax_of_the_masked_scores():
    a = np.arange(12, dtype=np.float64).reshape(1, 2, 6)
    raw = map_of(XP, gradient_free.score_cam(a, np.array([[[1000.0, 1000.0 + np.log(3)]]])))
    np.testing.assert_allclose(raw[0, 0], 0.25 * a[0, 0] + 0.75 * a[0, 1])
    np.testing.assert_allclose(gradient_free.masks(np.array([[[2.0, 4.0]], [[3.0, 3.0]]])), [[[0, 1]], [[0, 0]]])


# --- signed maps -----------------------------------------------------------------------------------------------------


def test_without_the_relu_the_map_is_signed():
    model = cnn("dense")
    classes = [[0, 1, 2, 3, 4]]
    every = ["map", "heatmap", "status"]
    plain = run(instrument(model, emit=every), images(2), classes)
    made = instrument(model, emit=every, relu=False)
    signed = run(made, images(2), classes)
    assert (signed["xcam_map"] < 0).any()
    np.testing.assert_array_equal(np.maximum(signed["xcam_map"], 0), plain["xcam_map"])
    assert Metadata.from_json(made.metadata_props[-1].value).relu is False
    heat = signed["xcam_heatmap"]
    assert heat.min() >= -1
    np.testing.assert_allclose(np.abs(heat).max((2, 3)), 1, rtol=1e-6)
    large = cv2.resize(signed["xcam_map"][1, 2], heat.shape[:1:-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(heat[1, 2], large / np.abs(large).max(), atol=2e-5)


def test_a_map_that_speaks_against_is_not_blank_without_the_relu():
    found = run(
        instrument(status_model(), emit=["map", "status", "heatmap"], relu=False), 5 * images(2), [[0, 1, 2, 3, 4]]
    )
    np.testing.assert_array_equal(found["xcam_status"], [[0, 0, 2, 3, 0]] * 2)
    assert (found["xcam_heatmap"][:, 1] <= 0).all()


# --- several layers in one -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [12, "?"])
@pytest.mark.parametrize("how", ["mean", "max", "product"])
def test_fused_layers(how, size):
    made = instrument(cnn("dense" if size == 12 else "gap", size=size), layers=["a", "r1"], fuse=how, emit=["map"])
    found = run(made, images(2), [[0, 1, 2]])
    small, large = found["xcam_map"], found["xcam_map_1"]
    grown = [
        cv2.resize(m, large.shape[:1:-1], interpolation=cv2.INTER_LINEAR) for m in small.reshape(-1, *small.shape[2:])
    ]
    parts = [np.reshape(grown, large.shape), large]
    peaks = [small.max((2, 3), keepdims=True), large.max((2, 3), keepdims=True)]
    levelled = np.stack([part / np.where(peak > 0, peak, 1) for part, peak in zip(parts, peaks, strict=True)])
    expected = {"mean": levelled.mean(0), "max": levelled.max(0), "product": levelled.prod(0)}[how]
    order = [small, large] if size == "?" else [large, small]
    assert found["xcam_fused"].shape == large.shape or size == "?", [one.shape for one in order]
    if size == 12:
        np.testing.assert_allclose(found["xcam_fused"], expected, atol=1e-5)
    np.testing.assert_allclose(
        found["xcam_fused"], fused(XP, [small, large], found["xcam_fused"].shape[2:], how), atol=1e-5
    )
    assert found["xcam_fused"].any()
    assert Metadata.from_json(made.metadata_props[-1].value).fuse == how


def test_signed_layers_fused():
    found = run(instrument(cnn("dense"), layers=["a", "r1"], fuse="mean", relu=False), images(1), [[0, 1]])
    assert found["xcam_fused"].min() < 0
    np.testing.assert_allclose(
        found["xcam_fused"], fused(XP, [found["xcam_map"], found["xcam_map_1"]], (12, 12), "mean"), atol=1e-5
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fuse": "sum"}, "fused by mean, max, product, not by 'sum'"),
        ({"fuse": "mean"}, "nothing to fuse"),
        ({"fuse": "product", "relu": False, "layers": ["a", "r1"]}, "Signed maps are fused by their mean only"),
    ],
)
def test_what_cannot_be_fused(options, message):
    with pytest.raises(XcamError, match=message):
        instrument(cnn("dense"), **options)


@pytest.mark.parametrize(("source", "target"), [((7, 7), (14, 21)), ((14, 14), (7, 5)), ((1, 3), (4, 4))])
def test_numpys_resize_is_opencvs(source, target):
    maps = np.random.default_rng(0).normal(size=(1, 2, *source)).astype(np.float32)
    expected = [cv2.resize(one, target[::-1], interpolation=cv2.INTER_LINEAR) for one in maps[0]]
    np.testing.assert_allclose(XP.resize_linear(maps, target)[0], expected, atol=1e-5)


# --- guided ----------------------------------------------------------------------------------------------------------


def conv_back(g, w, shape):
    """The gradient of a 3x3 convolution's input, padded by 1, stride 1: `g [O,h,w]`, `w [O,I,3,3]`."""
    result = np.zeros((shape[0], shape[1] + 2, shape[2] + 2))
    for o, i, j in np.ndindex(g.shape):
        result[:, i : i + 3, j : j + 3] += g[o, i, j] * w[o]
    return result[:, 1:-1, 1:-1]


def pool_back(g, x):
    """The gradient of a 2x2 maximum pooling's input `x [C,H,W]`."""
    result = np.zeros(x.shape)
    for c, i, j in np.ndindex(g.shape):
        window = x[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        di, dj = np.unravel_index(window.argmax(), window.shape)
        result[c, 2 * i + di, 2 * j + dj] = g[c, i, j]
    return result


def guided_gradient(model, image, class_id):
    """The guided gradient of one image `[3,12,12]` by hand, node by node, float64, summed over its colours."""
    w = {name: weight(model, name).astype(np.float64) for name in ("w1", "w2", "d1", "d2")}
    inner = onnx.ModelProto()
    inner.CopyFrom(model)
    inner.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("r1", "a", "active"))
    there = {name: value[0] for name, value in run(inner, image[None]).items()}
    g = np.maximum(w["d2"][class_id], 0) * (there["active"] > 0)
    g = np.maximum((g @ w["d1"]).reshape(there["a"].shape), 0) * (there["a"] > 0)
    pooled = conv_back(g, w["w2"], (3, 6, 6))
    g = np.maximum(pool_back(pooled, there["r1"]), 0) * (there["r1"] > 0)
    return conv_back(g, w["w1"], (3, 12, 12)).sum(0)


@pytest.mark.parametrize("n", [2, "N"])
@pytest.mark.parametrize("relu", [True, False])
def test_guided_xgrad_cam(n, relu):
    model = cnn("dense", n=n, seed=3)
    made = instrument(model, layers="a", method="guided-xgrad-cam", relu=relu, emit=["map"])
    found = run(made, images(2), [[0, 1, 2]])
    cam = run(instrument(model, layers="a", relu=relu, emit=["map"]), images(2), [[0, 1, 2]])["xcam_map"]
    assert found["xcam_map"].shape == (2, 3, 12, 12)
    single = cnn("dense", n="N", seed=3)
    for i in range(2):
        for k in range(3):
            large = cv2.resize(cam[i, k], (12, 12), interpolation=cv2.INTER_LINEAR)
            expected = large * guided_gradient(single, images(2)[i], k)
            expected = np.maximum(expected, 0) if relu else expected
            np.testing.assert_allclose(found["xcam_map"][i, k], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    assert found["xcam_map"].any()


def guided_note(model):
    metadata = Metadata.from_json(instrument(model, method="guided-xgrad-cam", emit=["map"]).metadata_props[-1].value)
    return next(note for note in metadata.notes if note.startswith("Guided"))


def test_it_is_said_what_is_guided():
    assert guided_note(cnn("dense")).endswith("passes the model's 3 ReLUs.")
    assert guided_note(cnn("dense", act=ACTS["clip"])).endswith("passes the model's 3 ReLUs.")
    smooth = cnn("gap", act=ACTS["silu"])
    smooth.graph.node[1].op_type = "Sigmoid"
    assert "no ReLU" in guided_note(smooth)


def test_guided_maps_of_a_picture_of_whole_numbers():
    """The gradient of the floats that a Cast makes of it."""
    model = cnn("dense")
    plain = run(instrument(model, method="guided-xgrad-cam", emit=["map"]), np.round(images(1) * 9 + 30), [[0]])
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["image"], ["floats"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "floats"
    made = instrument(model, method="guided-xgrad-cam", emit=["map"])
    found = run(made, np.round(images(1) * 9 + 30).clip(0).astype(np.uint8), [[0]])
    np.testing.assert_allclose(found["xcam_map"], plain["xcam_map"], rtol=1e-5)


def test_guided_maps_of_a_picture_of_whole_numbers_that_is_turned_first():
    """As TensorFlow Lite's models have it: channels last, transposed as integers, then dequantised."""
    image = np.round(images(1) * 9 + 30).clip(0)
    how = {"method": "guided-xgrad-cam", "emit": ["map"], "relu": False}
    plain = run(instrument(cnn("dense", seed=3), **how), image, [[0, 1, 2]])
    model = cnn("dense", seed=3, image="uint8[N,12,12,3] photo")
    nodes = [
        onnx.helper.make_node("Transpose", ["photo"], ["turned"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("DequantizeLinear", ["turned", "one"], ["image"]),
    ]
    for at, node in enumerate(nodes):
        model.graph.node.insert(at, node)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.float32), "one"))
    found = run(instrument(model, **how), image.transpose(0, 2, 3, 1).astype(np.uint8), [[0, 1, 2]])
    np.testing.assert_allclose(found["xcam_map"], plain["xcam_map"], rtol=1e-5, atol=1e-7)
    assert found["xcam_map"].any()


def test_guided_maps_need_a_picture():
    model = cnn("dense", image="float[N,3,12,12] image")
    model.graph.node.insert(0, onnx.helper.make_node("Reshape", ["flat_image", "to"], ["image"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([-1, 3, 12, 12]), "to"))
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("flat_image", onnx.TensorProto.FLOAT, ["N", 432]))
    with pytest.raises(XcamError, match="guided map needs an image input"):
        instrument(model, layers="a", method="guided-xgrad-cam")
