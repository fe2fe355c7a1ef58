"""Functions that exporters spell out are differentiated as one, and ONNX Runtime still fuses them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers.models import GAP, GAP_WEIGHTS, cnn
from onnx_xcam import check, instrument
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.autodiff.composites import steps
from onnx_xcam.surgery.ir.graph import Graph

CONSTANTS = (
    "root = Constant<value_float=1.41421356>()  inverse = Constant<value_float=0.70710678>()  "
    "one = Constant<value_float=1.0>()  half = Constant<value_float=0.5>()  "
)
FORMS = {
    "half last": "u = Div(c2, root)  e = Erf(u)  p = Add(e, one)  m = Mul(c2, p)  a = Mul(m, half)",
    "half first": "u = Mul(c2, inverse)  e = Erf(u)  p = Add(one, e)  m = Mul(half, c2)  a = Mul(m, p)",
    "half between": "u = Div(c2, root)  e = Erf(u)  p = Add(e, one)  m = Mul(p, half)  a = Mul(c2, m)",
}
OTHERS = {
    "another scale": FORMS["half last"].replace("Div(c2, root)", "Div(c2, half)"),
    "another offset": FORMS["half last"].replace("Add(e, one)", "Add(e, half)"),
    "another factor": FORMS["half last"].replace("Mul(m, half)", "Mul(m, one)"),
    "another x": FORMS["half last"].replace("Mul(c2, p)", "Mul(u, p)"),
    "divided the other way round": FORMS["half last"].replace("Div(c2, root)", "Div(root, c2)"),
    "erf used twice": FORMS["half last"].replace("a = Mul(m, half)", "m2 = Mul(m, half)  a = Add(m2, e)"),
}


def model(form: str) -> onnx.ModelProto:
    return cnn(GAP, act=CONSTANTS + form, weights=GAP_WEIGHTS, output="float[N,5] logits")


def graph_of(form: str) -> Graph:
    return prepare(model(form))


@pytest.mark.parametrize("form", FORMS)
def test_spelled_out_gelu_is_one_step(form):
    graph = graph_of(FORMS[form])
    found = {step.node.op: step for step in steps(graph, graph.nodes, {"c2"})}
    assert "Erf" not in found
    gelu = found["Gelu"]
    assert (gelu.node.inputs[0].name, gelu.node.outputs[0].name) == ("c2", "a")
    assert len(gelu.parts) == 5
    assert "Gelu" not in {node.op for node in graph.producer["c2"].outputs[0].outputs}, "the model is untouched"


SWISHES = {
    "x first": ("s = Sigmoid(c2)  a = Mul(c2, s)", 1.0),
    "sigmoid first": ("s = Sigmoid(c2)  a = Mul(s, c2)", 1.0),
    "scaled": ("z = Mul(c2, one_and_more)  s = Sigmoid(z)  a = Mul(c2, s)", 1.702),
    "of what is scaled": ("z = Mul(c2, one_and_more)  s = Sigmoid(z)  a = Mul(z, s)", 1.0),
}
NO_SWISHES = {
    "another x": "s = Sigmoid(c2)  n = Neg(c2)  a = Mul(n, s)",
    "sigmoid used twice": "s = Sigmoid(c2)  m = Mul(c2, s)  a = Add(m, s)",
    "a sum": "s = Sigmoid(c2)  a = Add(c2, s)",
    "scaled and used twice": "z = Mul(c2, one_and_more)  s = Sigmoid(z)  m = Mul(c2, s)  a = Add(m, z)",
    "scaled by a tensor": "n = Neg(c2)  z = Mul(c2, n)  s = Sigmoid(z)  a = Mul(c2, s)",
}
SCALE = "one_and_more = Constant<value_float=1.702>()  "


@pytest.mark.parametrize("form", SWISHES)
def test_spelled_out_swish_is_one_step(form):
    text, alpha = SWISHES[form]
    graph = graph_of(SCALE + text)
    found = {step.node.op: step for step in steps(graph, graph.nodes, {"c2"})}
    assert "Sigmoid" not in found
    swish = found["Swish"].node
    assert (swish.outputs[0].name, swish.attrs) == ("a", {"alpha": pytest.approx(alpha)})
    assert check(model(SCALE + text), layers="r1").passed


@pytest.mark.parametrize("form", NO_SWISHES)
def test_what_only_looks_like_a_swish_is_taken_node_by_node(form):
    graph = graph_of(SCALE + NO_SWISHES[form])
    assert "Swish" not in {step.node.op for step in steps(graph, graph.nodes, {"c2"})}


@pytest.mark.parametrize("form", SWISHES)
def test_onnxruntime_still_fuses_swish(form, tmp_path):
    plain = model(SCALE + SWISHES[form][0])
    before, after = (fused(one, tmp_path) for one in (plain, instrument(plain, layers="r1")))
    assert before["QuickGelu"] == after["QuickGelu"] == 1


def dense_block() -> onnx.ModelProto:
    """Each layer reads all features before it; the second Concat is also read by itself."""
    body = (
        "r = Relu(c2)  f1 = Relu(r)  j1 = Concat<axis=1>(r, f1)  k1 = Conv(j1, w)  f2 = Tanh(k1)  "
        "j2 = Concat<axis=1>(r, f1, f2)  k2 = Conv(j2, v)  f3 = Sigmoid(k2)  a = Concat<axis=1>(r, f1, f2, f3)"
    )
    weights = {"w": (2, 8, 1, 1), "v": (3, 10, 1, 1), "fc": (5, 13), "fb": (5,)}
    return cnn(GAP, act=body, weights=weights, output="float[N,5] logits")


def joined_from(layer: str) -> dict[str, list[str]]:
    """What each Concat is taken to join, on the way back to a layer."""
    graph = prepare(dense_block())
    found = [step.node for step in steps(graph, graph.nodes, {layer}) if step.node.op == "Concat"]
    return {node.outputs[0].name: [tensor.name for tensor in node.inputs] for node in found}


def test_the_features_of_a_dense_block_get_their_gradients_in_one_piece():
    inputs = joined_from("r1")
    assert inputs == {"j1": ["r", "f1"], "j2": ["j1", "f2"], "a": ["j2", "f3"]}
    assert check(dense_block(), layers="r1").passed


def test_a_layer_inside_a_dense_block_gets_only_what_goes_through_it():
    """j2 is the layer: what the last Concat takes from its parts directly is not its gradient."""
    assert joined_from("j2")["a"] == ["j1", "f2", "f3"]
    assert check(dense_block(), layers="j2").passed


@pytest.mark.parametrize("form", OTHERS)
def test_what_only_looks_like_it_is_taken_node_by_node(form):
    graph = graph_of(OTHERS[form])
    assert all(len(step.parts) == 1 for step in steps(graph, graph.nodes, {"c2"}))
    report = check(model(OTHERS[form]), layers="c2")
    assert report.passed, report.text()


@pytest.mark.parametrize("visible", ["u", "e", "p", "m"])
def test_a_layer_within_is_still_a_layer(visible):
    form = FORMS["half last"]
    graph = graph_of(form)
    assert "Gelu" not in {step.node.op for step in steps(graph, graph.nodes, {visible})}
    assert check(model(form), layers=visible).passed


@pytest.mark.parametrize("form", FORMS)
def test_its_gradient_is_proved_as_a_whole(form):
    report = check(model(FORMS[form]), layers="c2")
    assert report.passed, report.text()
    assert "Gelu" in {node.op for node in report.nodes}


def test_it_stays_fused(tmp_path):
    original = model(FORMS["half last"])
    plain, explained = (fused(one, tmp_path) for one in (original, instrument(original, layers="c2", emit=("map",))))
    assert plain["Gelu"] == explained["Gelu"] == 1
    assert plain["Erf"] == 0
    assert explained["Erf"] == 1, "that of the gradient"


def fused(one: onnx.ModelProto, folder: Path) -> Counter[str]:
    """The operators that ONNX Runtime runs."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    session = ort.InferenceSession(one.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = [2 if isinstance(dim, str) else dim for dim in session.get_inputs()[0].shape]
    assert np.isfinite(session.run(["logits"], {"image": np.ones(shape, np.float32)})[0]).all()
    return Counter(node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node)
