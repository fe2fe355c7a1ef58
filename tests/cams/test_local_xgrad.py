"""Local XGrad-CAM against its definition as slow loops, and its two properties, in numpy and as emitted nodes."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.map_cases import ACTS, HEADS, literal_local_map
from helpers.models import C, cnn, images, run
from onnx_xcam import instrument
from onnx_xcam.cams.contributions import map_of, shares_of
from onnx_xcam.cams.local_xgrad import local_xgrad_cam
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.cams.xgrad import xgrad_cam
from onnx_xcam.evaluation.axioms import errors_of
from onnx_xcam.explainer.recorder import Recorder

XP = NumpyArrays()
SHAPE = (2, 3, 4, 15)
"""N, K, C and S of the random arrays."""


def arrays(*, sign="both", constant=False, seed=5):
    """Return A `[N,C,S]` with values of the sign that is asked for, and G `[N,K,C,S]` or `[N,K,C,1]`."""
    rng = np.random.default_rng(seed)
    n, k, c, s = SHAPE
    a, g = rng.normal(size=(n, c, s)), rng.normal(size=(n, k, c, 1 if constant else s))
    return {"both": a, "positive": np.abs(a), "negative": -np.abs(a)}[sign], g


@pytest.mark.parametrize("sign", ["both", "positive", "negative"])
def test_the_share_of_each_channel_and_sign_is_xgrad_cams(sign):
    a, g = arrays(sign=sign)
    parts = {"both": a, "P": np.maximum(a, 0), "Q": np.minimum(a, 0)}
    for name, part in parts.items():
        local, plain = (
            shares_of(XP, method(XP, part, g, non_negative=False)) for method in (local_xgrad_cam, xgrad_cam)
        )
        np.testing.assert_allclose(local, plain, rtol=1e-9, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(local, (g * part[:, None]).sum(-1), rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("sign", ["both", "positive", "negative"])
@pytest.mark.parametrize("repeated", [False, True])
def test_where_the_gradient_is_constant_over_space_the_map_is_xgrad_cams(sign, repeated):
    """The formula itself has this property: it holds also where the same number stands at every position."""
    a, g = arrays(sign=sign, constant=True)
    g = np.repeat(g, SHAPE[-1], axis=-1) if repeated else g
    local, plain = (map_of(XP, method(XP, a, g, non_negative=False)) for method in (local_xgrad_cam, xgrad_cam))
    assert np.abs(plain).max() > 0.1
    np.testing.assert_allclose(local, plain, rtol=1e-9, atol=1e-12)


def test_a_share_stays_where_the_score_is_sensitive():
    """Two equal objects, of which the gradient sees one: XGrad-CAM shows both, local XGrad-CAM one."""
    a, g = np.zeros((1, 1, 8)), np.zeros((1, 1, 1, 8))
    a[..., [1, 6]], g[..., :4] = 2.0, 3.0
    local, plain = (map_of(XP, method(XP, a, g, non_negative=True)) for method in (local_xgrad_cam, xgrad_cam))
    np.testing.assert_allclose(local[0, 0], [0, 6, 0, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(plain[0, 0], [0, 3, 0, 0, 0, 0, 3, 0])


def test_the_rules_by_hand():
    """A share of 4 for the score by m max(G A, 0), and one of -4 by the root of m times A."""
    a, g, root = np.array([[[1.0, 2.0]]]), np.array([[[[2.0, 1.0]]]]), 2**0.5
    for_it, against = (map_of(XP, local_xgrad_cam(XP, a, sign * g, non_negative=True)) for sign in (1, -1))
    np.testing.assert_allclose(for_it, [[[4 * 4 / 6, 4 * 2 / 6]]])
    np.testing.assert_allclose(against, [[[-4 * root / (root + 2), -4 * 2 / (root + 2)]]])


@pytest.mark.parametrize("sign", ["both", "positive"])
def test_what_the_score_does_not_see_changes_nothing(sign):
    """Activations where every gradient is zero have no place in the map, and none in the divisors."""
    a, g = arrays(sign=sign)
    g[..., 9:] = 0
    other = a.copy()
    other[..., 9:] = np.abs(a[..., 9:]) * 50
    before, after = (map_of(XP, local_xgrad_cam(XP, one, g, non_negative=False)) for one in (a, other))
    np.testing.assert_allclose(after, before, rtol=1e-12)
    assert not after[..., 9:].any()
    assert np.abs(map_of(XP, xgrad_cam(XP, other, g, non_negative=False))[..., 9:]).max() > 0.1


def test_what_speaks_for_the_score_is_not_cancelled_by_what_speaks_against_it():
    """Two channels see the object, at position 1, one for the score and one against it, which is also active beside it.

    HiResCAM is zero at the object, and XGrad-CAM is below zero everywhere.
    """
    a = np.array([[[1.0, 4.0, 1.0, 1.0], [4.0, 4.0, 4.0, 4.0]]])
    g = np.array([[[[0.1, 2.0, 0.1, 0.1], [-1.0, -2.0, -1.0, -1.0]]]])
    local, plain = (map_of(XP, method(XP, a, g, non_negative=True))[0, 0] for method in (local_xgrad_cam, xgrad_cam))
    assert (g * a[:, None]).sum(2)[0, 0, 1] == 0
    assert plain.argmax() == local.argmax() == 1
    assert plain.max() < 0 < local.max()
    assert (np.delete(local, 1) < 0).all()


def test_shares_that_vanish_leave_no_trace():
    """A channel of zeros, one without a gradient and one whose contributions cancel have no place, and no NaN."""
    a = np.array([[[0.0, 0.0], [1.0, 2.0], [1.0, 1.0], [3.0, 1.0]]])
    g = np.array([[[[5.0, -5.0], [0.0, 0.0], [2.0, -2.0], [1.0, -1.0]]]])
    np.testing.assert_array_equal(map_of(XP, local_xgrad_cam(XP, a, g, non_negative=True)), [[[2.0, 0.0]]])


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12])
def test_the_map_scales_with_the_gradient(scale):
    """A divisor with an epsilon would make a small gradient's map another one."""
    a, g = arrays()
    whole = map_of(XP, local_xgrad_cam(XP, a, g, non_negative=False))
    np.testing.assert_allclose(
        map_of(XP, local_xgrad_cam(XP, a, g * scale, non_negative=False)) / scale, whole, rtol=1e-9
    )


# --- the emitted graph -----------------------------------------------------------------------------------------------


def added(made):
    """Return the operators that an instrumented model adds, in order."""
    return [node.op_type for node in made.graph.node if node.name.startswith("xcam/")]


@pytest.mark.parametrize("act", ["relu", "signed"])
def test_where_the_gradient_is_constant_the_emitted_graph_is_xgrad_cams(act):
    made = [
        instrument(cnn("gap", act=ACTS[act]), layers="a", method=method, emit=["map"])
        for method in ("local-xgrad-cam", "xgrad-cam")
    ]
    assert made[0].graph == made[1].graph
    assert "MatMul" in added(made[0])


@pytest.mark.parametrize("act", ["relu", "signed", "negative"])
@pytest.mark.parametrize("head", ["varying", "quadratic", "maximum", "constant over W"])
def test_the_emitted_map_has_both_properties(head, act):
    text, weights = HEADS[head]
    model = cnn(text, act=ACTS[act], n=2, weights=weights, seed=3)
    found = run(instrument(model, layers="a", method="local-xgrad-cam", relu=False), images(2), [list(range(C))])
    a, g = found["xcam_activations"].astype(np.float64), found["xcam_gradients"].astype(np.float64)
    for i in range(2):
        for k in range(C):
            share = g[i, k] * a[i]
            assert abs(found["xcam_map"][i, k].sum(dtype=np.float64) - share.sum()) <= 1e-5 * np.abs(share).sum()
            expected = literal_local_map(a[i], g[i, k])
            np.testing.assert_allclose(found["xcam_map"][i, k], expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())


def test_the_errors_of_the_axioms_are_xgrad_cams():
    methods = ["local-xgrad-cam", "xgrad-cam"]
    recorder = Recorder(cnn("dense", act=ACTS["silu"], n="N"), "r1", methods=methods, ablations=True, preprocess="unit")
    photo = np.random.default_rng(2).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    record = recorder.record(recorder.prepare(photo), recorder.choose(None, 3)).layers[0]
    local, plain = (errors_of(record, method) for method in methods)
    for name in ("conservation", "gap", "sensitivity"):
        assert (getattr(plain, name) > 1e-3).all(), "errors of 0 would show nothing"
        np.testing.assert_allclose(getattr(local, name), getattr(plain, name), rtol=1e-4)
    assert np.abs(record.raw(methods[0]) - record.raw(methods[1])).max() > 1e-2 * np.abs(record.raw(methods[1])).max()
