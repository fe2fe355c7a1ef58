"""Keras' own models, exported by Keras and by tf2onnx: the graph proves what `preprocess_input` leaves to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from helpers.producers import library
from onnx_xcam import Explainer

FAMILIES = [
    ("MobileNetV3Small", {"include_preprocessing": True}, True),
    ("MobileNetV3Small", {"include_preprocessing": False}, False),
    ("EfficientNetB0", {}, True),
    ("EfficientNetV2S", {"include_preprocessing": True}, True),
    ("ConvNeXtTiny", {"include_preprocessing": True}, True),
    ("MobileNetV2", {}, False),
]
"""A name in keras.applications, its options, and whether it takes 0 to 255, by its documentation."""


def save(path: Path, name: str, options: dict[str, Any], exporter: str) -> Any:
    """Build a model of Keras with random weights for 64x64, write it as ONNX, and return it."""
    keras = library("keras")
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=5, **options)
    model(np.zeros((1, 64, 64, 3), np.float32))  # a model that was never called is not exported
    if exporter == "keras":
        model.export(path, format="onnx", verbose=False)
    else:
        tensorflow = library("tensorflow")
        signature = (tensorflow.TensorSpec((None, 64, 64, 3), tensorflow.float32, name="image"),)
        library("tf2onnx").convert.from_keras(model, signature, opset=17, output_path=str(path))
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of TensorFlow
@pytest.mark.parametrize("exporter", ["keras", "tf2onnx"])
@pytest.mark.parametrize(("name", "options", "inside"), FAMILIES)
def test_the_model_gets_what_keras_feeds_it(tmp_path, name, options, inside, exporter):
    """A picture of one colour has the same pixels however it is resized; the scores are then Keras' own."""
    path = tmp_path / "model.onnx"
    model = save(path, name, options, exporter)
    if name == "ConvNeXtTiny" and any(node.op_type == "Erfc" for node in onnx.load(path).graph.node):
        pytest.skip("tf2onnx has no erfc, which this model's GELU needs")
    explainer = Explainer(path)
    assert (explainer.model.photos.settled.origins["values"].kind == "graph") is inside
    if not inside:
        return
    colour = np.full((64, 64, 3), (200, 40, 90), np.uint8)
    prepared = explainer.prepare(colour).item
    np.testing.assert_array_equal(prepared, colour)
    scores = explainer.explain(colour, top=5)
    theirs = np.asarray(model(colour[None].astype(np.float32)))[0]
    order = scores.classes[0]
    np.testing.assert_allclose(scores.probabilities[0], theirs[order], atol=1e-5)
