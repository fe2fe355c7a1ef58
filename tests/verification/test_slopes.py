"""`check` judges how the score changes: what a gradient misses is found, and kinks are no fault."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from helpers.models import DENSE, DENSE_WEIGHTS, GAP, GAP_WEIGHTS, C, cnn
from onnx_xcam import check
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.rules import RULES
from onnx_xcam.verification.slopes import of_first_image, slope_of

# --- the comparison itself -------------------------------------------------------------------------------------------

DEEP = 6


def relu_network(seed=0):
    """A score with thousands of kinks, and its gradient."""
    random = np.random.default_rng(seed)
    layers = [random.normal(0, np.sqrt(2 / 200), (200, 200)) for _ in range(DEEP)]
    last = random.normal(size=200)

    def score(x):
        for w in layers:
            x = np.maximum(w @ x, 0)
        return float(last @ x)

    def gradient(x):
        seen = []
        for w in layers:
            seen.append(w @ x > 0)
            x = np.maximum(w @ x, 0)
        g = last
        for w, mask in zip(reversed(layers), reversed(seen), strict=True):
            g = w.T @ (g * mask)
        return g

    x = np.maximum(random.normal(size=200), 0)
    return score, x, gradient(x)


def compared(score, x, g, seed=0):
    return slope_of(score, x, g, x, np.random.default_rng(seed))


@pytest.mark.parametrize("seed", range(5))
def test_kinks_are_no_fault(seed):
    score, x, g = relu_network(seed)
    found = compared(score, x, g)
    assert found.passed and found.error < 1e-4
    assert found.large_step[2] < 0.3


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fault", ["a hundredth too much", "the wrong sign", "a part of it missing", "cut"])
def test_a_wrong_gradient_is_found(fault, seed):
    score, x, g = relu_network(seed)
    part = np.arange(len(x)) < 10
    wrong = {
        "a hundredth too much": 1.01 * g,
        "the wrong sign": -g,
        "a part of it missing": np.where(part, 0, g),
        "cut": 0 * g,
    }[fault]
    assert not compared(score, x, wrong, seed).passed


def test_the_last_digits_of_a_large_score_are_no_fault():
    score, x, g = relu_network()
    assert compared(lambda at: score(at) + 1e9, x, g).passed


def test_values_that_are_equal_stay_so():
    """A MaxPool over zeros, as behind a ReLU, or over values that were clipped, may take any of them."""
    x = np.array([0.0, 0.0, 6.0, 6.0, 1.0])
    found = compared(lambda at: float(max(at[0], at[1]) + max(at[2], at[3]) + at[4]), x, np.array([1.0, 0, 1, 0, 1]))
    assert found.passed and found.error < 1e-8


def test_values_of_one_image():
    whole = of_first_image(np.array([1.0, 2.0]), 1, (2, 3))
    np.testing.assert_array_equal(whole, [[1, 0, 0], [2, 0, 0]])


# --- check -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["Relu", "Gemm", "MaxPool"])
def test_a_rule_that_is_off_by_a_hundredth_is_seen_at_the_layer(op, monkeypatch):
    model = cnn("dense")
    (right,) = check(model, layers="r1").layers
    assert right.passed and right.slope < 1e-5
    rule = RULES[op]

    def wrong(node, gy):
        result = rule.function(node, gy)
        gradients = [result] if isinstance(result, Value) else list(result)
        return [g if g is None else g * 1.01 for g in gradients]

    monkeypatch.setitem(RULES, op, replace(rule, function=wrong))
    report = check(model, layers="r1")
    (layer,) = report.layers
    assert not layer.passed and not report.passed
    assert 5e-3 < layer.slope < 5e-2
    assert "FAIL  slope of the score at 'r1'" in report.text()


BESIDE = "k = Constant<value_float=20.0>()  z = Mul(a, k)  {steps}  y = Div(q, k)  f = Flatten(y)"
STEPS = {
    "Round": "q = Round(z)",
    "Floor": "q = Floor(z)",
    "Cast": "i = Cast<to=7>(z)  q = Cast<to=1>(i)",
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_way_without_a_gradient_is_told(kind):
    """Most of the score comes by steps, a thousandth by the gradient's way: right, but next to nothing."""
    beside = BESIDE.format(steps=STEPS[kind])
    text = f"e = Constant<value_float=0.001>()  {GAP.replace('logits', 'l1')}  l0 = Mul(l1, e)  {beside}  "
    model = cnn(
        text + "l2 = Gemm<transB=1>(f, other)  logits = Add(l0, l2)", weights={**GAP_WEIGHTS, "other": (C, 144)}
    )
    report = check(model, layers="a")
    (layer,) = report.layers
    assert layer.warning in report.warnings
    assert "carry no gradient" in report.text() and "see the warning" in report.text()
    assert json.loads(json.dumps(report.to_dict()))["warnings"] == report.warnings
    if kind != "Cast":
        assert f"{kind} 'q'" in layer.warning


def test_a_quantised_model_says_why_it_is_not_compared():
    text = (
        "s = Constant<value_float=0.02>()  zero = Constant<value=uint8{0}>()  q = QuantizeLinear(a0, s, zero)  "
        f"a = DequantizeLinear(q, s, zero)  {DENSE}"
    )
    model = cnn(text, act="a0 = Relu(c2)", weights=DENSE_WEIGHTS)
    report = check(model)
    (layer,) = report.layers
    assert layer.slope is None and layer.passed
    assert "not compared: the model is quantised" in report.text()
