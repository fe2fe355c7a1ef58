"""Images of one run that influence each other: `check` fails, and photos are explained as if each were alone."""

from __future__ import annotations

import json
import warnings

import numpy as np
import onnx
import pytest

from helpers.models import DENSE, DENSE_WEIGHTS, GAP, C, cnn, images, run
from helpers.tiny_models import count_runs
from onnx_xcam import Explainer, check, instrument
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.surgery.axes.batch_independence import cannot_mix

MIXING = {
    "a mean over the images": "m = ReduceMean<axes=[0]>(logits)  y = Sub(logits, m)",
    "a softmax over the images": "y = Softmax<axis=0>(logits)",
    "a sum so far": "zero = Constant<value_int=0>()  y = CumSum(logits, zero)",
    "the largest of the run": "m = ReduceMax<keepdims=1>(logits)  y = Div(logits, m)",
}
"""Nodes from the logits to y."""
NORMALISED = (
    "n, rm, rv = BatchNormalization<training_mode=1>(c2, gamma, beta, mean, var)  a = Relu(n)",
    {"gamma": (4,), "beta": (4,), "mean": (4,), "var": np.ones(4, np.float32)},
)


def mixing(kind, n="N"):
    return cnn("dense", end=MIXING[kind], output=f"float[N,{C}] y", n=n)


def normalised(n="N"):
    """Batch normalisation as it is while a model is trained."""
    act, weights = NORMALISED
    return cnn("dense", act=act, weights=weights, n=n)


def quantised():
    """A dense layer whose integers are scaled by the run."""
    body = (
        "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  q, s, z = DynamicQuantizeLinear(flat)  "
        "i = MatMulInteger(q, w, z)  f = Cast<to=1>(i)  k = Mul(f, s)  logits = Mul(k, ws)"
    )
    weights = {
        "w": np.random.default_rng(0).integers(-127, 127, (4, C)).astype(np.int8),
        "ws": np.array(0.01, np.float32),
    }
    return cnn(body, weights=weights)


def opened(model, **options):
    return Explainer(model, preprocess="unit", **options)


def one_by_one(model, batch, classes):
    """Scores and maps of each image in a run of its own."""
    found = [run(instrument(model), batch[n : n + 1], [classes]) for n in range(len(batch))]
    return [np.concatenate([one[name] for one in found]) for name in ("xcam_scores", "xcam_map")]


# --- check -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MIXING)
def test_check_fails_where_images_influence_each_other(kind):
    report = check(mixing(kind), layers="r1")
    assert not report.rows.passed and not report.passed
    assert report.rows.difference > 0.01
    assert "FAIL  images of a run influence each other: '" in report.text()
    assert json.loads(json.dumps(report.to_dict()))["rows"]["difference"] == report.rows.difference


def test_check_fails_for_a_batch_that_the_model_was_exported_with():
    report = check(mixing("a mean over the images", n=3))
    assert not report.rows.passed


@pytest.mark.parametrize("n", [1, 3, "N"])
def test_check_passes_where_they_do_not(n):
    report = check(cnn("dense", n=n), layers="r1")
    assert report.passed
    assert (report.rows is None) == (n == 1)
    assert ("images of a run: each gives what it gives alone" in report.text()) == (n != 1)


def test_a_scale_of_the_run_is_told():
    report = check(quantised())
    assert report.rows.passed and report.rows.scaled_by_run
    assert report.rows.warning in report.warnings
    assert "DynamicQuantizeLinear" in report.text()


def test_a_model_that_cannot_be_run_with_two_says_so():
    """The batch is open by name, and baked into a Reshape."""
    model = cnn("s = Constant<value_ints=[1,144]>()  flat = Reshape(a, s)  " + DENSE.split(")", 1)[1])
    model.graph.initializer.extend(cnn("dense").graph.initializer[4:])
    report = check(model)
    assert report.passed and report.rows.difference is None
    assert "not compared with each alone" in report.text()


# --- explaining ------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.parametrize("kind", MIXING)
def test_each_photo_is_explained_as_if_it_were_alone(kind, instrumented):
    model, batch = mixing(kind), images(4)
    explainer = opened(instrument(model, layers="r1", emit=["map"]) if instrumented else model)
    explanation = explainer.explain(batch, [1, 3])
    alone = [explainer.explain(batch[n : n + 1], [1, 3]) for n in range(4)]
    np.testing.assert_allclose(explanation.scores, np.concatenate([one.scores for one in alone]), rtol=1e-5)
    np.testing.assert_allclose(explanation.maps, np.concatenate([one.maps for one in alone]), rtol=1e-4, atol=1e-7)
    assert any("is run by itself" in note for note in explanation.notes)
    assert not any("is run by itself" in note for note in alone[0].notes)


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_photos_of_a_quantised_model_have_their_own_scale():
    model, batch = quantised(), images(4)
    scores, maps = one_by_one(model, batch, [0, 2])
    explanation = opened(model).explain(batch, [0, 2])
    np.testing.assert_allclose(explanation.scores, scores, rtol=1e-6)
    np.testing.assert_allclose(explanation.maps, maps, rtol=1e-5, atol=1e-7)


def test_a_batch_of_the_export_is_filled_with_one_photo_and_that_is_a_warning():
    batch = images(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = opened(normalised(3))
    with pytest.warns(UserWarning, match="which takes 3, so each is run with copies of itself"):
        explanation = explainer.explain(batch, [1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = explainer.explain(batch[1:2], [1])
    np.testing.assert_allclose(explanation.scores[1:2], again.scores, rtol=1e-5)
    assert not any("copies" in warning for warning in again.warnings()), "it is said once"


def test_one_photo_in_a_batch_of_the_export_is_tried_beside_another(monkeypatch):
    """Copies of one photo do not differ by themselves from what it is among others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = opened(normalised(3))
    runs = count_runs(explainer, monkeypatch)
    with pytest.warns(UserWarning, match="which takes 3, so each is run with copies of itself"):
        first = explainer.explain(images(1), [1])
    assert len(runs) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(explainer.explain(images(1), [1]).maps, first.maps)
    assert len(runs) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apart = opened(cnn("s = Constant<value_ints=[3,144]>()  flat = Reshape(a, s)  " + DENSE.split(")", 1)[1], n=3,
                           weights=DENSE_WEIGHTS))  # fmt: skip
        found = apart.explain(images(1), [1])
    assert not any("copies" in warning for warning in found.warnings())


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_confidences_of_changed_pictures_are_those_of_each():
    model, batch = mixing("a mean over the images"), images(5)
    recorder = Recorder(model, methods=["xgrad-cam"], preprocess="unit")
    alone = np.concatenate([recorder.confidences(batch[n : n + 1], Cells(np.array([[0, 1]]))) for n in range(5)])
    np.testing.assert_allclose(recorder.confidences(batch, Cells(np.array([[0, 1]]))), alone, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_ordinary_models_are_run_no_more_often(monkeypatch):
    explainer = opened(cnn("dense"))
    runs = count_runs(explainer, monkeypatch)
    explanation = explainer.explain(images(4), [1])
    assert len(runs) == 1
    assert not any(note.startswith("Batch") for note in explanation.notes)


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_what_nobody_knows_is_tried_once(monkeypatch):
    """A reshape by computed sizes, as exporters write it, mixes nothing, but that shows only when it runs."""
    text = "k = Constant<value_ints=[0]>()  s = Shape(a)  n = Gather(s, k)  m = Constant<value_ints=[-1]>()  "
    text += "t = Concat<axis=0>(n, m)  flat = Reshape(a, t)  " + DENSE.split("Flatten(a)", 1)[1]
    explainer = opened(cnn(text, weights=DENSE_WEIGHTS))
    runs = count_runs(explainer, monkeypatch)
    batch = images(4)
    explainer.explain(batch[[0, 0]], [1])
    assert len(runs) == 1, "equal photos tell nothing"
    explainer.explain(batch, [1])
    assert len(runs) == 4
    explainer.explain(batch, [1])
    assert len(runs) == 5


# --- what the operators tell -----------------------------------------------------------------------------------------

SAFE = {
    "gap": cnn("gap"),
    "dense": cnn("dense"),
    "swish": cnn("gap", act="s = Sigmoid(c2)  a = Mul(c2, s)"),
    "residual": cnn("gap", act="r = Relu(c2)  d = Add(r, c2)  a = Relu(d)"),
    "softmax": cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y"),
    "scaled": cnn("gap", act="k = Constant<value_float=2.0>()  d = Mul(c2, k)  a = Relu(d)"),
}
UNSAFE = {
    **{kind: mixing(kind) for kind in MIXING},
    "training": normalised(),
    "training that tells nobody": cnn("dense", act=NORMALISED[0].replace("n, rm, rv =", "n ="), weights=NORMALISED[1]),
    "of each place in the batch": cnn("gap", act="d = Add(c2, each)  a = Relu(d)", weights={"each": (2, 1, 1, 1)}, n=2),
    "transposed": cnn("gap", act="t = Transpose<perm=[1,0,2,3]>(c2)  d = Softmax<axis=1>(t)  "
                      "a = Transpose<perm=[1,0,2,3]>(d)"),
    "old softmax": cnn("dense", end="y = Softmax<axis=0>(logits)", output=f"float[N,{C}] y", opset=11),
    "in a branch": cnn(
        "g = GlobalAveragePool(o)  logits = Flatten(g)",
        act="a = Relu(c2)  s = ReduceMax<keepdims=0>(b1)  c = Cast<to=9>(s)  "
        "o = If(c) <then_branch = t () => (float[N,4,6,6] p) { p = Softmax<axis=0>(a) }, "
        "else_branch = e () => (float[N,4,6,6] q) { q = Identity(a) }>",
    ),
    "the other factor": cnn(GAP.replace("Gemm<transB=1>(flat, fc, fb)", "MatMul(fc, flat)"), weights={"fc": (C, 4)}),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAFE)
def test_operators_that_cannot_mix_images(kind):
    assert cannot_mix(SAFE[kind], "image", [SAFE[kind].graph.output[0].name, "a"])


@pytest.mark.parametrize("kind", UNSAFE)
def test_operators_that_may(kind):
    model = UNSAFE[kind]
    assert not cannot_mix(model, "image", [model.graph.output[0].name])


def test_a_tensor_that_is_not_there_is_not_known():
    assert not cannot_mix(cnn("gap"), "image", ["z"])
    assert not cannot_mix(onnx.ModelProto(), "image", [])
