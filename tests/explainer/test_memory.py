"""Many classes of one image: one run where that is cheap, cut by memory where it is not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.parser import parse_model

from helpers import tiny_models
from onnx_xcam import surgery
from onnx_xcam.explainer import Explainer
from onnx_xcam.explainer import running as module
from onnx_xcam.explainer.memory import bytes_per_class

KNOWN = {"preprocess": {"scale": "1/255"}}
pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")  # of blank maps
BATCH = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)


def test_the_memory_of_a_class_is_that_of_the_tensors_that_live_together():
    """By hand: 4 and 2 numbers for each class, then their product of 8; with the outputs at most 8 + 8 at once."""
    model = parse_model("""<ir_version: 8, opset_import: ["": 17]>
    m (float[N,3,4,4] image, int64[1,K] xcam_class) => (float[K,8] y)
    <float[9,4] a = {0}, float[4,8] b = {0}> {
        one = ReduceMax<keepdims=0>(xcam_class)
        flat = Squeeze(xcam_class)
        rows = Gather(a, flat)
        wide = MatMul(rows, b)
        other = Relu(image)
        y = Neg(wide)
    }""")
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.zeros((9, 4), np.float32), "a"))
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.zeros((4, 8), np.float32), "b"))
    assert bytes_per_class(model.SerializeToString(), {"image": (1, 3, 4, 4)}) == (8 + 8) * 4


def test_what_cannot_be_followed_is_none():
    text = """<ir_version: 8, opset_import: ["": 17]>
    m (float[N,3,4,4] image, int64[1,K] xcam_class) => (float[P,Q] y)
    { there = NonZero(xcam_class) y = Cast<to=1>(there) }"""
    assert bytes_per_class(parse_model(text).SerializeToString(), {"image": (1, 3, 4, 4)}) is None
    assert bytes_per_class(b"no model", {}) is None


@pytest.mark.parametrize("layer", ["auto", "c"])
def test_a_model_is_followed_without_its_weights(layer):
    explainer = Explainer(tiny_models.tiny(metadata=KNOWN, classes=40), layers=layer, providers="cpu")
    per_class = module._bytes_per_class(explainer.model.loaded, BATCH)
    pixels = 8 * 8
    # At `c` a Relu lies between: its gradient [2,4,8,8] per class is there; at the default layer it is never made.
    if layer == "auto":
        assert 2 * pixels * 4 <= per_class < 2 * 4 * pixels * 4 * 2
    else:
        assert per_class >= 2 * 4 * pixels * 4 * 2


def test_classes_are_cut_where_their_memory_is_beyond_the_bound_and_give_the_same(monkeypatch):
    explainer = Explainer(tiny_models.tiny(metadata=KNOWN, classes=40), layers="c", providers="cpu")
    runs = tiny_models.count_runs(explainer, monkeypatch)
    whole = explainer.explain(BATCH, top=40)
    assert [feeds["xcam_class"].shape[1] for feeds in runs] == [40]
    each = module._bytes_per_class(explainer.model.loaded, BATCH)
    monkeypatch.setattr("onnx_xcam.runtime.batching.BYTES_OF_CLASSES", 15 * each)
    runs.clear()
    cut = explainer.explain(BATCH, top=40)
    assert [feeds["xcam_class"].shape[1] for feeds in runs] == [15, 15, 10]
    np.testing.assert_array_equal(cut.classes, whole.classes)
    np.testing.assert_allclose(cut.maps, whole.maps, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(cut.probabilities, whole.probabilities)


def test_an_instrumented_model_that_someone_gives_is_guessed_at():
    made = surgery.instrument_bytes(tiny_models.tiny(metadata=KNOWN, classes=40), emit=("map",))
    explainer = Explainer(made, providers="cpu")
    assert explainer.model.loaded.skeleton is None
    assert explainer.explain(BATCH, top=40).maps.shape == (2, 40, 8, 8)
    assert module._bytes_per_class(explainer.model.loaded, BATCH) == 2 * 8 * 8 * 1024 * 4 * 4
