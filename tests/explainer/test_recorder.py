"""Recorder and the methods that take more than one run, against what separate runs of the model give."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest

from helpers.layer_models import with_zeroed
from helpers.models import cnn, images, run
from helpers.token_models import MODELS, token_model
from onnx_xcam import Explainer, XcamError, instrument
from onnx_xcam.cams.methods import EMITTED, METHODS
from onnx_xcam.errors import ModelError, UnsupportedOpError, XcamWarning
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
CLASSES = np.array([[0, 3]])
SIGNED = "a = Identity(c2)"


def recorder_of(model, **options):
    return Recorder(model, **{"methods": list(METHODS), "providers": "cpu", **options})


def recorded(model, image, classes=CLASSES, **options):
    recorder = recorder_of(model, **options)
    (picture,) = recorder.model.pictures(image)
    return recorder.record(picture, Cells(classes))


@pytest.mark.parametrize("n", ["N", 1, 3])
@pytest.mark.parametrize("method", EMITTED)
def test_a_recording_gives_the_map_that_the_model_itself_gives(method, n):
    model = cnn("dense", act=SIGNED, n=n, seed=3)
    image = images(1)
    recording = recorded(model, image, layers=["a", "r1"])
    made = instrument(model, layers=["a", "r1"], method=method, relu=False, emit=["map"])
    count = n if isinstance(n, int) else 1
    expected = run(made, np.repeat(image, count, 0), CLASSES)
    for index, name in enumerate(["xcam_map", "xcam_map_1"]):
        scale = np.abs(expected[name][0]).max()
        np.testing.assert_allclose(recording.map(method, index), expected[name][0], rtol=1e-4, atol=1e-5 * scale)
        shown = recording.explanation(method).maps_of(index)[0]
        np.testing.assert_allclose(shown, np.maximum(expected[name][0], 0), rtol=1e-4, atol=1e-5 * scale)
    np.testing.assert_array_equal(recording.classes, [0, 3])
    np.testing.assert_allclose(recording.scores, expected["logits"][0, [0, 3]], rtol=1e-5)


@pytest.mark.parametrize("n", ["N", 1, 3])
def test_ablation_cam_against_models_without_the_channel(n):
    model, image = cnn("dense", act=SIGNED, n=n, seed=3), images(1)
    count = n if isinstance(n, int) else 1
    batch = np.repeat(image, count, 0)
    before = run(model, batch)["logits"][0, [0, 3]].astype(np.float64)
    a = run(instrument(model, layers="a"), batch)["xcam_activations"][0].astype(np.float64)
    weights = [(before - run(with_zeroed(model, k), batch)["logits"][0, [0, 3]]) / np.abs(before) for k in range(4)]
    expected = np.einsum("ck,chw->khw", np.array(weights), a)
    found = recorded(model, image, layers="a", methods=["ablation-cam"])
    np.testing.assert_allclose(found.map("ablation-cam"), expected, rtol=1e-4, atol=1e-5)
    through = Explainer(model, layers="a", method="ablation-cam", providers="cpu", relu=False).explain(image, [0, 3])
    np.testing.assert_allclose(through.maps[0], expected, rtol=1e-4, atol=1e-5)
    assert through.method == "ablation-cam"
    assert through.signed


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_score_cam_against_runs_of_masked_pictures(layout):
    import cv2

    model, image = cnn("dense", seed=3), images(1)
    a = run(instrument(model, layers="a"), image)["xcam_activations"][0]
    logits = []
    for channel in a:
        large = cv2.resize(channel, (12, 12), interpolation=cv2.INTER_LINEAR)
        spread = np.ptp(large)
        mask = (large - large.min()) / (spread if spread > 0 else 1)
        logits.append(run(model, image * mask)["logits"][0, [0, 3]].astype(np.float64))
    powers = np.exp(np.array(logits))
    expected = np.einsum("ck,chw->khw", powers / powers.sum(0), a.astype(np.float64))
    if layout == "NHWC":
        model.graph.node.insert(0, onnx.helper.make_node("Transpose", ["photo"], ["image"], perm=[0, 3, 1, 2]))
        model.graph.input[0].CopyFrom(onnx.helper.make_tensor_value_info("photo", 1, ["N", 12, 12, 3]))
        image = image.transpose(0, 2, 3, 1)
    found = recorded(model, image, layers="a", methods=["score-cam"])
    np.testing.assert_allclose(found.map("score-cam"), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["eigen-cam", "ablation-cam", "score-cam"])
def test_an_explainer_of_each_method(method):
    """Several images, each its own classes, several layers, fused; as one by one."""
    explainer = Explainer(cnn("dense"), layers=["a", "r1"], method=method, providers="cpu", fuse="mean")
    batch = images(3)
    together = explainer.explain(batch, [[0, -1], [1, 2], [4, 3]])
    assert together.maps.shape == (3, 2, 6, 6)
    assert together.fused.shape == (3, 2, 12, 12)
    assert together.classes[1].tolist() == [1, 2]
    alone = explainer.explain(batch[1:2], [[1, 2]])
    for layer in (0, 1, "fused"):
        np.testing.assert_allclose(together.maps_of(layer)[1], alone.maps_of(layer)[0], rtol=1e-5, atol=1e-6)
    assert (together.maps >= 0).all()
    (streamed,) = explainer.stream([batch[1:2]], [1, 2])
    np.testing.assert_array_equal(streamed.unwrap().maps, alone.maps)


@pytest.mark.parametrize("method", ["eigen-cam", "ablation-cam", "score-cam"])
def test_no_gradient_rule_is_needed(method):
    """An operator without a rule between layer and score is no obstacle where nothing is differentiated."""
    head = (
        "flat = Flatten(a)  s = Gemm<transB=1>(flat, d1)  square = Reshape(s, to)  odd = Det(square)  "
        "logits = Reshape(odd, back)"
    )
    more = {"d1": (20, 144), "to": np.array([-1, 5, 2, 2]), "back": np.array([-1, 5])}
    model = cnn(head, weights=more)
    with pytest.raises(UnsupportedOpError, match="Det"):
        Explainer(model, layers="a", providers="cpu")
    explanation = Explainer(model, layers="a", method=method, providers="cpu", relu=False).explain(images(1), [0])
    assert explanation.maps.any()


@pytest.mark.parametrize(
    ("name", "height"),
    [(name, height) for name in MODELS for height in (8, "H") if (name, height) != ("cut by reshapes", "H")],
)
def test_tokens(name, height):
    model = token_model(name, height=height)
    image = np.random.default_rng(1).normal(size=(1, 3, 8, 12)).astype(np.float32)
    recording = recorded(model, image, np.array([[0]]), methods=["xgrad-cam", "ablation-cam"])
    explanation = Explainer(model, providers="cpu").explain(image, [0])
    np.testing.assert_allclose(recording.explanation("xgrad-cam").maps, explanation.maps, rtol=1e-4, atol=1e-6)
    assert recording.map("ablation-cam").shape == explanation.maps.shape[1:]


def test_the_status_of_a_recording():
    from helpers.map_cases import status_model

    model = status_model()
    recording = recorded(model, 5 * images(1), np.arange(5)[None], methods=["xgrad-cam"])
    with np.errstate(all="ignore"):
        assert recording.explanation("xgrad-cam").status.tolist() == [[0, 1, 2, 3, 0]]


def test_confidences():
    model = cnn("gap", end="probs = Softmax(logits)", output="float[N,5] probs")
    batch = images(40)
    recorder = recorder_of(model, methods=["xgrad-cam"])
    expected = run(model, batch)["probs"]
    np.testing.assert_allclose(recorder.confidences(batch, Cells(np.array([[3, 1]]))), expected[:, [3, 1]], rtol=1e-5)
    assert recorder.confidence_kind == "probability"


def test_a_stream_of_recordings():
    """In order, with what cannot be read in its place."""
    recorder = recorder_of(cnn("dense"), layers="a", methods=["grad-cam"])
    photos = [np.random.default_rng(i).integers(0, 256, (12, 12, 3), np.uint8) for i in range(5)]
    sources = [*photos[:3], "no such file.png", *photos[3:]]

    def each(outcome):
        return outcome.image, outcome.error, outcome.recording and outcome.recording.map("grad-cam")

    found = list(recorder.stream(sources, Cells(CLASSES), each=each))
    assert [one[0] is source for one, source in zip(found, sources, strict=True)] == [True] * 6
    assert [one[1] is None for one in found] == [True, True, True, False, True, True]
    for photo, (_, _, raw) in zip(photos, [*found[:3], *found[4:]], strict=True):
        expected = recorder.record(recorder.prepare(photo), Cells(CLASSES)).map("grad-cam")
        np.testing.assert_array_equal(raw, expected)


def test_what_was_not_recorded_is_said():
    recording = recorded(cnn("dense"), images(1), methods=["eigen-cam"])
    with pytest.raises(XcamError, match="holds no gradients"):
        recording.map("grad-cam")
    with pytest.raises(XcamError, match="not made for ablations"):
        recording.map("ablation-cam")
    with pytest.raises(XcamError, match="no guided gradients"):
        recording.map("guided-xgrad-cam")
    with pytest.raises(XcamError, match="has no shares"):
        recording.shares("guided-xgrad-cam")
    with pytest.raises(XcamError, match="no layer 'b'; it has 'a'"):
        recording.map("eigen-cam", "b")


@pytest.mark.parametrize("method", ["ablation-cam", "eigen-cam"])
def test_an_instrumented_model_gives_no_other_method(method):
    with pytest.raises(ModelError, match=r"instrumented already.*need the original model"):
        Explainer(instrument(cnn("dense")), method=method, providers="cpu")


def test_warnings_come_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Explainer(cnn("dense"), method="eigen-cam", providers="cpu")
    assert len([w for w in caught if issubclass(w.category, XcamWarning)]) == 1
