"""Names of layers that are accepted going in are accepted coming out."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, build
from onnx_xcam import Explainer, instrument
from onnx_xcam.errors import LayerError
from onnx_xcam.explainer.recorder import Recorder

PHOTO = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)


def blocks() -> onnx.ModelProto:
    """Nodes are called as the TorchScript exporter calls them: `/_blocks.1/conv/Conv`, ..."""
    model = build(
        "c1 = Conv<pads=[1,1,1,1]>(image, w) r1 = Relu(c1) c10 = Conv<pads=[1,1,1,1]>(r1, v) r10 = Relu(c10) "
        "a = Relu(r10) " + GAP,
        {"w": (4, 3, 3, 3), "v": (4, 4, 3, 3), **GAP_WEIGHTS},
    )
    names = ["/_blocks.1/conv/Conv", "/_blocks.1/act/Relu", "/_blocks.10/conv/Conv", "/_blocks.10/act/Relu"]
    for node, name in zip(model.graph.node, names, strict=False):
        node.name = name
    return model


@pytest.mark.parametrize(
    "name", ["_blocks.1", "_blocks.1.act", "/_blocks.1/act/Relu", "r1", 0, -2, np.int64(0)], ids=str
)
def test_an_explanation_and_a_recording_know_a_layer_by_all_its_names(name):
    asked = ["_blocks.1", "_blocks.10"]
    options = {"preprocess": "unit", "providers": "cpu"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = Explainer(blocks(), asked, relu=False, **options).explain(PHOTO, classes=[1])
    assert found.layers == ("r1", "r10")
    np.testing.assert_array_equal(found.maps_of(name), found.maps_of(0))
    np.testing.assert_array_equal(found.heatmap(layer=name), found.heatmap(layer=0))
    np.testing.assert_array_equal(found.overlay(layer=name), found.overlay(layer=0))
    np.testing.assert_array_equal(found.status_of(name), found.status_of(0))
    recorder = Recorder(blocks(), asked, methods=["grad-cam"], **options)
    recording = recorder.record(recorder.prepare(PHOTO), recorder.choose([1]))
    np.testing.assert_array_equal(recording.map("grad-cam", name), recording.map("grad-cam", 0))
    assert recording.explanation("grad-cam").maps_of("_blocks.10").shape == (1, 1, 12, 12)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("_blocks.2", r"has no layer '_blocks.2' \(did you mean '_blocks.1'\?\); it has 'r1', 'r10'"),
        ("_blocks", r"has several layers that '_blocks' fits: 'r1', 'r10'; name one of them"),
        (2, r"has no layer 2; it has 'r1', 'r10'"),
        ("", r"has no layer ''; it has"),
    ],
)
def test_a_name_that_fits_none_or_several(name, said):
    recorder = Recorder(blocks(), ["_blocks.1", "_blocks.10"], methods=["grad-cam"], preprocess="unit", providers="cpu")
    recording = recorder.record(recorder.prepare(PHOTO), recorder.choose([1]))
    with pytest.raises(LayerError, match=said):
        recording.map("grad-cam", name)
    with pytest.raises(LayerError, match=said):
        recording.explanation("grad-cam").maps_of(name)


def test_an_instrumented_model_knows_its_layers_by_the_names_it_was_asked_for_by():
    made = instrument(blocks(), layers=["_blocks.1"])
    explainer = Explainer(made, ["_blocks.1"], preprocess="unit", providers="cpu")
    assert explainer.layers == ("r1",)
    with pytest.raises(LayerError, match="is instrumented already"):
        Explainer(made, ["_blocks.10"], preprocess="unit", providers="cpu")
