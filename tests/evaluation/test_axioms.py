"""The axioms' errors: by hand, and XGrad-CAM against Grad-CAM where it is told apart."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from helpers.layer_models import run_of
from helpers.models import cnn, images, run
from helpers.quantised_twins import quantised
from onnx_xcam import instrument
from onnx_xcam.ablation import open_ablations
from onnx_xcam.cams.contributions import shares_of
from onnx_xcam.cams.grad import grad_cam
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.errors import XcamError
from onnx_xcam.evaluation.axioms import axiom_errors, best_scale, errors_of
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder
from tools.evaluation import axioms


def test_the_errors_by_hand():
    found = axiom_errors(
        np.array([10.0, -2.0]),
        np.array([[4.0, 3.0, -1.0], [-2.0, 0.0, 0.0]]),
        np.array([[5.0, 7.0, 12.0], [0.0, -2.0, -2.0]]),
        np.array([3.0, 0.0]),
    )
    np.testing.assert_allclose(found.conservation, [(10 - 6) / 8, 0])
    np.testing.assert_allclose(found.gap, [(10 - 6) / 10, 0])
    np.testing.assert_allclose(found.unexplained, [(10 - 3 - 6) / 8, 0])
    np.testing.assert_allclose(found.sensitivity, [(1 + 0 + 1) / (5 + 3 + 2), 0])


def test_shares_of_nothing():
    found = axiom_errors(np.array([2.0, 0.0]), np.zeros((2, 3)), np.array([[1.0, 2.0, 2.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_array_equal(found.conservation, [np.inf, 0])
    np.testing.assert_array_equal(found.sensitivity, [1, 0])
    np.testing.assert_array_equal(found.scale, [0, 0])
    only_shares = axiom_errors(np.array([2.0]), np.ones((1, 2)), np.full((1, 2), 2.0))
    np.testing.assert_array_equal(only_shares.sensitivity, [np.inf])


def test_the_scale_is_the_best_one():
    random = np.random.default_rng(0)
    for _ in range(50):
        drops, shares = 0.4 + random.normal(size=(2, 9))
        drops[0] = shares[1] = 0
        best = best_scale(drops, shares)
        errors = [np.abs(drops - t * shares).sum() for t in np.linspace(0, 20, 4001)]
        assert best >= 0
        assert np.abs(drops - best * shares).sum() <= min(errors) + 1e-9


def test_a_scale_alone_is_no_error_when_scaled():
    drops = np.array([[1.0, -2.0, 4.0]])
    found = axiom_errors(np.array([5.0]), drops * 7, 5 - drops)
    np.testing.assert_allclose(found.sensitivity, [6])
    np.testing.assert_allclose(found.scale, [1 / 7])
    np.testing.assert_allclose(found.scaled_sensitivity, [0], atol=1e-12)
    np.testing.assert_allclose(found.scaled_conservation, [2 / 7])
    turned = axiom_errors(np.array([5.0]), -drops, 5 - drops)
    np.testing.assert_array_equal(turned.scale, [0])
    np.testing.assert_array_equal(turned.scaled_sensitivity, [1])


@pytest.mark.parametrize(("layer", "apart"), [("a", False), ("p1", True)])
def test_xgrad_cam_is_nearer_to_the_axioms_than_grad_cam_where_the_gradient_varies(layer, apart):
    """Behind a mean over space they are the same, and both axioms hold but for the bias."""
    model, image = cnn("gap", seed=1), images(1)
    (ablation,) = open_ablations(model, layer, providers="cpu")
    values = run_of(model, ablation.needed, image)
    made = run(instrument(model, layers=layer, emit=("activations", "gradients"), relu=False), image, [[0, 1, 2]])
    a = made["xcam_activations"].reshape(1, len(values[layer][0]), -1)
    g = made["xcam_gradients"].reshape(1, 3, a.shape[1], -1)
    balance, ablated = ablation.decomposition(values, [0, 1, 2]), ablation.ablated(values, [0, 1, 2])
    xgrad, grad = (
        axiom_errors(
            made["xcam_scores"][0],
            shares_of(NumpyArrays(), formula(NumpyArrays(), a, g, non_negative=True))[0],
            ablated,
            balance.bias,
        )
        for formula in (xgrad_cam, grad_cam)
    )
    assert xgrad.unexplained.max() < 1e-5
    if apart:
        assert grad.unexplained.min() > 1e-2
        assert xgrad.sensitivity.mean() < grad.sensitivity.mean()
    else:
        np.testing.assert_allclose(grad.sensitivity, xgrad.sensitivity, atol=1e-6)
        assert xgrad.sensitivity.max() < 1e-5


@pytest.fixture
def record():
    """Two layers of a classifier of 5 classes, with ablations."""
    model = cnn("dense", act="a = Relu(c2)", seed=3)
    recorder = Recorder(model, ["a", "p1"], methods=["xgrad-cam", "grad-cam"], ablations=True, providers="cpu")
    return recorder.record(recorder.model.pictures(images(1))[0], Cells(np.array([[0, 3]])))


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_a_recording_tells_the_errors_of_its_methods(record):
    for layer in record.layers:
        np.testing.assert_allclose(layer.balance.scores, record.scores, rtol=1e-5)
        xgrad, grad = (errors_of(layer, name) for name in ("xgrad-cam", "grad-cam"))
        assert xgrad.unexplained.max() < 1e-5
        assert grad.unexplained.min() > 1e-2
        drops = record.scores[:, None] - layer.ablated
        missed = np.abs(drops - layer.shares("grad-cam")).sum(1) / np.abs(drops).sum(1)
        np.testing.assert_allclose(grad.sensitivity, missed, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_what_a_quantised_model_owes_to_biases_is_not_told(tmp_path):
    twin = quantised("qdq", tmp_path)
    recorder = Recorder(twin, "a", methods=["xgrad-cam"], ablations=True, providers="cpu")
    recording = recorder.record(recorder.model.pictures(images(1))[0], Cells(np.array([[0, 3]])))
    found = errors_of(recording.layers[0], "xgrad-cam")
    assert found.unexplained is None
    assert np.isfinite(found.sensitivity).all()


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_a_recording_without_ablations_says_so():
    recorder = Recorder(cnn("gap"), methods=["xgrad-cam"], providers="cpu")
    recording = recorder.record(recorder.model.pictures(images(1))[0], Cells(np.array([[0]])))
    with pytest.raises(XcamError, match="open the Recorder with ablations"):
        errors_of(recording.layers[0], "xgrad-cam")


@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_the_tool_measures_errors_and_time(tmp_path, capsys, monkeypatch):
    onnx.save(cnn("dense", size=12), tmp_path / "model.onnx")
    command = ["axioms.py", str(tmp_path / "model.onnx"), "--count", "2", "--seconds", "0", "--method", "xgrad-cam"]
    monkeypatch.setattr("sys.argv", command)
    axioms.main()
    out = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in out.splitlines() if line.startswith("| `")]
    errors, times = [row for row in rows if len(row) == 10], [row for row in rows if len(row) == 5]
    layers = axioms.default_and_earlier(tmp_path / "model.onnx")
    assert layers[0] == "a"
    assert len(set(layers)) == 4
    assert [row[0].strip("`") for row in times] == layers
    assert [(row[0].strip("`"), row[2]) for row in errors] == [
        (name, method) for name in layers for method in ("xgrad-cam", axioms.REFERENCE)
    ]
    assert all(float(row[4]) < 1e-4 for row in errors if row[2] == "xgrad-cam"), "nothing is left beside the biases"
    assert all(float(row[6]) == 0 for row in errors if row[2] == axioms.REFERENCE)
