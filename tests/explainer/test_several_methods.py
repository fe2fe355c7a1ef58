"""Several methods share the runs of an Explainer: each has the maps that an Explainer of its own makes."""

from __future__ import annotations

import pickle

import numpy as np
import onnx
import pytest

from helpers.models import cnn
from helpers.tiny_models import LABELS, tiny
from onnx_xcam import Explainer, XcamError
from onnx_xcam.report.settings import python_call

METHODS = ["grad-cam", "xgrad-cam", "ablation-cam", "eigen-cam"]
PHOTOS = [np.random.default_rng(n).integers(0, 256, (20, 24, 3), np.uint8) for n in range(3)]


@pytest.fixture
def explainer() -> Explainer:
    return Explainer(tiny(), method=METHODS, preprocess="unit", labels=LABELS)


def same(found, expected):
    assert found.method == expected.method and found.labels == expected.labels
    np.testing.assert_array_equal(found.classes, expected.classes)
    np.testing.assert_array_equal(found.status, expected.status)
    np.testing.assert_allclose(found.maps, expected.maps, rtol=1e-4, atol=1e-6)


def test_each_method_has_the_maps_that_it_has_alone(explainer):
    explanation = explainer.explain(PHOTOS, top=2)
    assert explainer.methods == explanation.methods == tuple(METHODS)
    assert explainer.method == explanation.method == "grad-cam", "the first one is shown"
    for method in METHODS:
        alone = Explainer(tiny(), method=method, preprocess="unit", labels=LABELS).explain(PHOTOS, top=2)
        assert alone.methods == (method,) and alone.by(method) is alone
        same(explanation.by(method), alone)


def test_a_stream_has_them_too_in_one_run_of_an_image(explainer, monkeypatch):
    explainer = Explainer(tiny(), method=["grad-cam", "layercam", "grad-cam"], preprocess="unit")
    session, runs = explainer.model.loaded.session, []
    plain = session.run
    monkeypatch.setattr(session, "run", lambda *args: runs.append(args) or plain(*args))
    found = [one.unwrap() for one in explainer.stream(PHOTOS)]
    assert len(runs) == len(PHOTOS)
    for photo, explanation in zip(PHOTOS, found, strict=True):
        assert explanation.methods == ("grad-cam", "layer-cam"), "each once"
        same(explanation.by("LayerCAM"), Explainer(tiny(), method="layercam", preprocess="unit").explain(photo))


def test_warnings_of_all_methods_are_told_once(explainer):
    with pytest.warns(UserWarning, match="zero everywhere"):
        explanation = Explainer(cnn("dense", n="N"), method=METHODS[:2], preprocess="unit").explain(
            np.zeros((1, 3, 12, 12), np.float32), top=3
        )
    told = explanation.map_warnings()
    assert len(told) == len(set(told))
    assert {line for one in explanation.methods for line in explanation.by(one).map_warnings()} == set(told)


def test_a_method_that_was_not_asked_for_is_an_error(explainer):
    explanation = explainer.explain(PHOTOS[0])
    with pytest.raises(XcamError, match="explained by grad-cam, xgrad-cam, ablation-cam, eigen-cam, and not by score"):
        explanation.by("score-cam")
    with pytest.raises(XcamError, match="There is no method 'cam'"):
        explanation.by("cam")
    for wrong, message in (
        ([], "No method was named"),
        (5, "method is 5; it must be a list of texts, or a text"),
        (["cam"], "There is no method 'cam'"),
    ):
        with pytest.raises(XcamError, match=message):
            Explainer(tiny(), method=wrong, preprocess="unit")


def test_a_copy_has_the_same_methods(tmp_path):
    onnx.save(tiny(), tmp_path / "m.onnx")
    explainer = Explainer(tmp_path / "m.onnx", method=iter(METHODS), preprocess="unit")
    other = pickle.loads(pickle.dumps(explainer))
    assert other.methods == tuple(METHODS)
    same(other.explain(PHOTOS[0]).by("eigen-cam"), explainer.explain(PHOTOS[0]).by("eigen-cam"))


def test_the_python_of_a_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny(), "m.onnx")
    np.save("p.npy", np.zeros((2, 2)))
    from onnx_xcam.images.write import write_image

    write_image(tmp_path / "p.png", PHOTOS[0])
    names: dict = {}
    options = {"preprocess": "unit", "fuse": None, "relu": False}
    exec(python_call("m.onnx", "p.png", METHODS[:2], options, {"classes": None, "top": 2}), names)
    assert [one.method for one in names["explanations"]] == METHODS[:2]
    assert all(one.signed and one.maps.shape[1] == 2 for one in names["explanations"])
