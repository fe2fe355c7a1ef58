"""Classes that do not exist are told by a sentence, also where the graph does not say how many there are."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from helpers.models import TRUNK, TRUNK_WEIGHTS, build, images
from onnx_xcam import Explainer, instrument
from onnx_xcam.errors import ClassError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

BODY = TRUNK + "a = Relu(c2)  pooled = GlobalAveragePool(a)  flat = Flatten(pooled)  logits = MatMul(flat, table)  "
ENDS = {
    "logits": ("", "float[N,K] logits"),
    "probabilities": ("y = Softmax<axis=1>(logits)", "float[N,K] y"),
    "a label": ("y = ArgMax<axis=1>(logits)", "int64[N,1] y"),
}
TABLE = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
"""Of seven classes, which are known at run time only."""


def opened(kind, **options):
    text, output = ENDS[kind]
    model = build(BODY + text, TRUNK_WEIGHTS, inputs="float[N,3,12,12] image, float[4,K] table", outputs=output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer(model, preprocess="unit", inputs={"table": TABLE}, **options)


@pytest.mark.parametrize("method", ["xgrad-cam", "eigen-cam"])
@pytest.mark.parametrize("kind", ENDS)
def test_classes_beyond_the_last_are_refused(kind, method):
    explainer = opened(kind, method=method)
    batch = images(2)
    for wanted in ({"classes": [7]}, {"classes": [-8]}, {"classes": [[0], [9]]}, {"top": 8}):
        with pytest.raises(ClassError, match=r"class -?[789] is out of range"):
            explainer.explain(batch, **wanted)
    for wanted, count in (({"classes": [6, -7, -1]}, 3), ({"top": 7}, 7)):
        assert explainer.explain(batch, **wanted).classes.shape == (2, count)
    best = opened("logits").explain(batch, top=7).classes
    np.testing.assert_array_equal(explainer.explain(batch, top=7).classes, best)


def test_the_number_of_classes_is_told():
    with pytest.raises(ClassError, match=r"class 7 is out of range: the model has 7 classes, 0 to 6"):
        opened("logits").explain(images(1), classes=[7])


def test_a_stream_ends_with_it():
    pictures = [np.full((12, 12, 3), value, np.uint8) for value in (10, 200)]
    with pytest.raises(ClassError, match="8 is out of range"):
        list(opened("probabilities").stream(pictures, classes=[8]))


def test_in_a_recording():
    text, output = ENDS["logits"]
    model = build(BODY + text, TRUNK_WEIGHTS, inputs="float[N,3,12,12] image, float[4,K] table", outputs=output)
    recorder = Recorder(model, methods=["xgrad-cam", "ablation-cam"], preprocess="unit", inputs={"table": TABLE})
    picture = recorder.prepare(np.zeros((12, 12, 3), np.uint8))
    with pytest.raises(ClassError, match="class 7 is out of range"):
        recorder.record(picture, Cells(np.array([[7]])))
    assert recorder.record(picture, Cells(np.array([[6]]))).classes.tolist() == [6]


@pytest.mark.parametrize("wanted", [9, -9])
def test_a_class_fixed_at_surgery_that_is_not_there(wanted):
    """How many there are is known at run time only, and any run of the file fails."""
    text, output = ENDS["logits"]
    model = build(BODY + text, TRUNK_WEIGHTS, inputs="float[N,3,12,12] image, float[4,K] table", outputs=output)
    fixed = instrument(model, class_input="fixed", classes=[1, wanted])
    with pytest.raises(ClassError, match=r"a class that was fixed when .* is out of range"):
        Explainer(fixed, preprocess="unit", inputs={"table": TABLE}).explain(images(1))
    there = instrument(model, class_input="fixed", classes=[1, -7])
    assert Explainer(there, preprocess="unit", inputs={"table": TABLE}).explain(images(1)).classes.shape == (1, 2)
