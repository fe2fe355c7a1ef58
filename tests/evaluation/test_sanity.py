"""The sanity check: maps of a model whose weights are random, and of a method that looks at the photo only."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

import onnx_xcam
from helpers.models import build, cnn
from onnx_xcam.errors import ClassError, LayerError, XcamError
from onnx_xcam.evaluation.sanity import SanityRecord, follows_the_model, sanity, summarised
from onnx_xcam.evaluation.similarity import rank_correlation, ssim
from onnx_xcam.surgery.randomise import randomised

SAMPLE, INT8 = "sample_models/efficientnet_lite0.onnx", "sample_models/efficientnet_lite0_int8.onnx"
PHOTOS = ["sample_models/photos/cat.png", "sample_models/photos/coffee.png", "sample_models/photos/rocket.jpg"]
SMALL = {"preprocess": {"scale": "1/255"}}


def photos(count: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 12, 12, 3)).astype(np.uint8))


def edges(recording) -> np.ndarray:
    """A map that knows nothing of the model: how steep the photo is."""
    grey = cv2.cvtColor(recording.picture.image_rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.hypot(*np.gradient(grey))


@pytest.mark.parametrize("model", [SAMPLE, INT8])
def test_xgrad_cam_follows_the_model_and_an_edge_detector_does_not(model):
    records = list(sanity(model, PHOTOS, steps=2, others={"edges": edges}))
    assert follows_the_model(records) == {"xgrad-cam": True, "edges": False}
    assert all(record.rank_correlation == record.ssim == 1 for record in records if record.method == "edges")
    last = {step.method: step for step in summarised(records)}
    assert last["xgrad-cam"].depth == last["xgrad-cam"].of == 50
    assert last["xgrad-cam"].ssim < 0.7 and last["xgrad-cam"].compared == 3


def test_a_map_of_activations_alone_does_not_see_the_classifier_change():
    steps = summarised(sanity(SAMPLE, PHOTOS[:1], methods=["eigen-cam", "grad-cam"], steps=2))
    eigen, grad = ([step for step in steps if step.method == name] for name in ("eigen-cam", "grad-cam"))
    assert eigen[0].rank_correlation == 1 and grad[0].rank_correlation < 0.5
    assert eigen[1].rank_correlation < 0.5


def test_a_map_turned_into_its_negative_has_not_changed():
    signs = itertools.chain([1], itertools.repeat(-1))
    records = list(sanity(SAMPLE, PHOTOS[:1], steps=1, others={"flipped": lambda r: next(signs) * (edges(r) + 1)}))
    (flipped,) = (record for record in records if record.method == "flipped")
    assert flipped.rank_correlation == pytest.approx(-1) and flipped.absolute == pytest.approx(1)
    assert follows_the_model(records)["flipped"] is False


def test_records_say_what_was_done():
    model = cnn("dense")
    records = list(sanity(model, photos(2), methods=["xgrad-cam", "layercam"], class_name=3, **SMALL))
    found = [(r.depth, r.layer, r.photo, r.method) for r in records]
    layers, names, methods = ["logits", "hidden", "c2", "c1"], ["image 0", "image 1"], ["xgrad-cam", "layer-cam"]
    assert found == [
        (depth, layer, name, method)
        for depth, layer in enumerate(layers, start=1)
        for name in names
        for method in methods
    ]
    assert {(r.class_id, r.of) for r in records} == {(3, 4)}


def test_the_class_stays_that_of_the_original_model():
    model = cnn("dense")
    pictures = photos(3)
    tops = [int(onnx_xcam.Explainer(model, **SMALL).explain(one).classes[0, 0]) for one in pictures]
    for record in sanity(model, pictures, **SMALL):
        assert record.class_id == tops[int(record.photo[-1])]


def test_the_maps_compared_are_those_of_the_explainer_before_the_relu():
    model = cnn("dense")
    (picture,) = photos(1)
    maps = []
    for content in (model, *(step.model for step in randomised(model, seed=5))):
        made = onnx_xcam.instrument(content, relu=False)
        explanation = onnx_xcam.Explainer(made, **SMALL).explain(picture, classes=[2])
        maps.append(explanation.maps[0, 0])
    records = sanity(model, [picture], seed=5, class_name=2, **SMALL)
    expected = [rank_correlation(maps[0], later) for later in maps[1:]]
    assert [record.rank_correlation for record in records] == pytest.approx(expected, abs=1e-6)


def test_independent_layers_are_compared_with_the_rest_as_it_was():
    """Activations do not depend on the layers behind them: only the two convolutions change them."""
    options = {"methods": ["eigen-cam"], "others": {"a": lambda r: r.layers[0].A.sum(0).reshape(6, 6)}}
    records = list(sanity(cnn("dense"), photos(1), order="independent", **options, **SMALL))
    for method in ("eigen-cam", "a"):
        found = [record.rank_correlation for record in records if record.method == method]
        assert found[:2] == [1, 1] and max(found[2:]) < 0.999


def test_a_blank_map_is_not_compared():
    body = "c = Conv(image, w)  a = Relu(c)  p = GlobalAveragePool(a)  f = Flatten(p)  logits = Gemm(f, d)"
    weights = {"w": -np.ones((4, 3, 1, 1), np.float32), "d": np.ones((4, 5), np.float32)}
    weights["d"][0, 0] = 2
    records = list(sanity(build(body, weights), photos(1), **SMALL))
    assert records and all(record.rank_correlation is None for record in records)
    assert follows_the_model(records) == {"xgrad-cam": None}
    (step,) = summarised(records)[-1:]
    assert (step.rank_correlation, step.compared, step.photos) == (None, 0, 1)


def test_means_are_over_the_photos():
    def record(depth: int, value: float | None) -> SanityRecord:
        return SanityRecord("p", "grad-cam", 0, f"l{depth}", "Conv", depth, 2, value, value, 0.25)

    steps = summarised([record(2, 0.7), record(1, 0.5), record(2, None), record(1, 0.9)])
    assert [(step.depth, step.rank_correlation, step.compared) for step in steps] == [(1, 0.7, 2), (2, 0.7, 1)]
    assert follows_the_model([record(1, 0.1), record(2, 0.5)]) == {"grad-cam": False}
    assert follows_the_model([record(1, 0.9), record(2, 0.49)]) == {"grad-cam": True}


def test_what_cannot_be_tried_is_said_before_anything_runs():
    model = cnn("gap")
    with pytest.raises(XcamError, match="no photos"):
        sanity(model, [])
    with pytest.raises(XcamError, match="no method 'smooth'"):
        sanity(model, photos(1), methods=["smooth"], **SMALL)
    with pytest.raises(LayerError):
        sanity(model, photos(1), layer="nowhere", **SMALL)
    with pytest.raises(ClassError):
        sanity(model, photos(1), class_name=99, **SMALL)
    with pytest.raises(XcamError, match="steps is 0"):
        sanity(model, photos(1), steps=0, **SMALL)


def ranks_by_hand(values: np.ndarray) -> list[float]:
    flat = values.ravel().tolist()
    return [1 + sum(b < a for b in flat) + (sum(b == a for b in flat) - 1) / 2 for a in flat]


@pytest.mark.parametrize("levels", [3, 1000])
def test_rank_correlation_is_pearsons_of_the_ranks(levels):
    random = np.random.default_rng(levels)
    a, b = random.integers(0, levels, (2, 5, 6)).astype(np.float32)
    expected = np.corrcoef(ranks_by_hand(a), ranks_by_hand(b))[0, 1]
    assert rank_correlation(a, b) == pytest.approx(expected, abs=1e-12)
    assert rank_correlation(a, np.exp(a / levels)) == pytest.approx(1)
    assert rank_correlation(a, -a) == pytest.approx(-1)


def test_rank_correlation_is_undefined_for_a_flat_map_and_one_that_is_not_finite():
    ramp = np.arange(9.0).reshape(3, 3)
    for other in (np.zeros((3, 3)), np.where(ramp == 4, np.nan, ramp), np.where(ramp == 4, np.inf, ramp)):
        assert rank_correlation(ramp, other) is None and rank_correlation(other, ramp) is None


def ssim_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    values = []
    for top, left in itertools.product(range(a.shape[0] - 6), range(a.shape[1] - 6)):
        x, y = (z[top : top + 7, left : left + 7].astype(np.float64).ravel() for z in (a, b))
        covariance = np.cov(x, y)
        up = (2 * x.mean() * y.mean() + 1e-4) * (2 * covariance[0, 1] + 9e-4)
        down = (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (covariance[0, 0] + covariance[1, 1] + 9e-4)
        values.append(up / down)
    return math.fsum(values) / len(values)


@pytest.mark.parametrize("shape", [(7, 7), (12, 30)])
def test_ssim_is_that_of_the_paper(shape):
    random = np.random.default_rng(0)
    a = random.random(shape).astype(np.float32)
    b = np.clip(0.7 * a + 0.3 * random.random(shape), 0, 1).astype(np.float32)
    assert ssim(a, b) == pytest.approx(ssim_by_hand(a, b), abs=1e-9)
    assert ssim(a, a) == pytest.approx(1, abs=1e-12)
    assert ssim(a, np.full(shape, np.nan)) is None
    with pytest.raises(ValueError, match="at least 7 x 7"):
        ssim(a[:6], b[:6])
