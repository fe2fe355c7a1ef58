"""The axioms' errors: by hand, and XGrad-CAM against Grad-CAM where it is told apart."""

from __future__ import annotations

import numpy as np
import pytest
from models import cnn, images
from test_heads import run_of

from onnx_xcam.cams.contributions import shares_of
from onnx_xcam.cams.grad import grad_cam
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.evaluation.axioms import axiom_errors, best_scale
from onnx_xcam.heads import open_heads


def test_the_errors_by_hand():
    found = axiom_errors(
        np.array([10.0, -2.0]),
        np.array([[4.0, 3.0, -1.0], [-2.0, 0.0, 0.0]]),
        np.array([[5.0, 7.0, 12.0], [0.0, -2.0, -2.0]]),
        np.array([3.0, 0.0]),
    )
    np.testing.assert_allclose(found.conservation, [(10 - 6) / 8, 0])
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
    from models import run

    from onnx_xcam import instrument

    model, image = cnn("gap", seed=1), images(1)
    (head,) = open_heads(model, layer, providers="cpu")
    values = run_of(model, head.needed, image)
    made = run(instrument(model, layers=layer, emit=("activations", "gradients"), relu=False), image, [[0, 1, 2]])
    a = made["xcam_activations"].reshape(1, len(values[layer][0]), -1)
    g = made["xcam_gradients"].reshape(1, 3, a.shape[1], -1)
    balance, ablated = head.balance(values, [0, 1, 2]), head.ablated(values, [0, 1, 2])
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
