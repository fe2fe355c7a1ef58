"""The pass before the export changes how numbers are computed and not the numbers: against a literal pass."""

from __future__ import annotations

from typing import get_args

import numpy as np
import onnx
import pytest

from helpers.half_precision import halved
from helpers.models import GAP, GAP_WEIGHTS, cnn, images, run
from helpers.quantised_twins import FLOAT, FORMATS, middle, quantised
from helpers.token_models import MODELS, token_model
from onnx_xcam import instrument
from onnx_xcam.cams.methods import EMITTED
from onnx_xcam.surgery.builder.values import INTENTS, Intent

MET: set[str] = set()
"""The intentions that `literal` has put down."""


def reshaped(step, x, target):
    return x.emitter.one("Reshape", [x, target], x.dtype, step.outputs[0].shape)


def dequantised(step, q, scale, zero_point=None):
    numbers = q.cast(scale.dtype)
    return (numbers if zero_point is None else numbers.elementwise("Sub", zero_point)).elementwise("Mul", scale)


LITERAL = {
    "Dequantised": dequantised,
    "Folded": reshaped,
    "Masked": lambda step, x, mask: mask.where(x, 0),
    "OneHotRows": lambda step, x, count: x.unsqueeze([x.rank]).equal(count).cast(step.outputs[0].dtype),
    "Scaled": lambda step, x, scale: x.elementwise("Mul", scale),
    "Settled": lambda step, x: x,
    "Times": lambda step, x: x.elementwise("Mul", step.attributes["factor"]),
    "Unfolded": reshaped,
    "Unscaled": lambda step, x, scale: x.elementwise("Div", scale),
}
"""The operator that each intention stands for."""


def literal(emitter, outputs):
    """As `simplified`, with nothing simplified: each intention is the operator that it stands for."""
    new, made = emitter.successor(), {}

    def now(value):
        if value is None or value.name in made:
            return value and made[value.name]
        if emitter.is_constant(value.name):
            return new.constant(value.const)
        return new.forward(value.name, value.dtype, value.shape, value.const)

    for step in emitter.needed(outputs):
        inputs = [now(value) for value in step.inputs]
        if step.domain == INTENTS:
            MET.add(step.op)
        results = [LITERAL[step.op](step, *inputs)] if step.domain == INTENTS else new.copy(step, inputs)
        for out, result in zip(step.outputs, results, strict=True):
            if out is not None:
                made[out.name] = result.with_shape(out.shape)
    return new, [now(value) for value in outputs]


def assert_the_same(model: onnx.ModelProto, image: np.ndarray, monkeypatch, **options) -> None:
    options = {"emit": ("map", "gradients", "heatmap", "status"), **options}
    simple = instrument(model, **options)
    with monkeypatch.context() as patched:
        patched.setattr("onnx_xcam.surgery.builder.export.simplified", literal)
        plain = instrument(model, **options)
    classes = [[-1, -2, 0]]
    found, expected = run(simple, image, classes), run(plain, image, classes)
    assert found.keys() == expected.keys()
    for name in [name for name in expected if name.startswith("xcam_")]:
        size = np.abs(expected[name]).max(initial=1e-6)
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=2e-4 * size, err_msg=name)


@pytest.mark.parametrize("method", EMITTED)
def test_every_method(method, monkeypatch):
    assert_the_same(cnn("gap"), images(2), monkeypatch, method=method)


@pytest.mark.parametrize("layer", ["r1", "p1", "a"])
@pytest.mark.parametrize("head", ["gap", "dense"])
def test_layers_of_a_network(head, layer, monkeypatch):
    assert_the_same(cnn(head), images(2), monkeypatch, layers=layer)


def masks() -> onnx.ModelProto:
    act = "r = LeakyRelu(c2)  t = Clip(r, zero, six)  w = HardSwish(t)  a = Elu(w)"
    bounds = {"zero": np.asarray(np.float32(0)), "six": np.asarray(np.float32(6))}
    return cnn(GAP, act=act, weights={**GAP_WEIGHTS, **bounds})


def test_masks_and_slopes(monkeypatch):
    assert_the_same(masks(), images(2), monkeypatch, layers="p1")


@pytest.mark.parametrize("name", MODELS)
def test_transformers(name, monkeypatch):
    assert_the_same(
        token_model(name), np.random.default_rng(0).normal(size=(2, 3, 8, 12)).astype(np.float32), monkeypatch
    )


def test_half_precision(monkeypatch):
    assert_the_same(halved(cnn("gap")), images(2).astype(np.float16), monkeypatch)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("where", ["default", "middle"])
def test_quantised_networks(form, where, tmp_path, monkeypatch):
    model = quantised(form, tmp_path, FLOAT)
    assert_the_same(model, images(2), monkeypatch, layers="auto" if where == "default" else middle(model))


def test_every_intention_is_met(tmp_path, monkeypatch):
    """An intention that these models lack would be compared nowhere here."""
    MET.clear()
    assert_the_same(masks(), images(2), monkeypatch, layers="p1")
    twin = quantised("qdq per tensor", tmp_path, FLOAT)
    assert_the_same(twin, images(2), monkeypatch, layers=middle(twin))
    assert set(get_args(Intent)) == MET
