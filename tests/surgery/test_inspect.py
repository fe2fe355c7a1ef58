"""`inspect`: the score, the candidate layers in order, the default, and what stands in the way."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from helpers.models import GAP, GAP_WEIGHTS, C, build, cnn
from onnx_xcam import inspect, instrument
from onnx_xcam.errors import ScoreError


def test_a_plain_model(tmp_path):
    model = cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y")
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    report = inspect(path)
    assert (report.model, report.opset, report.nodes) == (str(path), 17, len(model.graph.node))
    assert report.inputs == [{"name": "image", "type": "float32", "shape": ["N", 3, 12, 12]}]
    assert report.outputs == [{"name": "y", "type": "float32", "shape": ["N", C]}]
    assert (report.score, report.classes, report.activation, report.instrumented) == ("logits", C, "Softmax", False)
    assert [(layer.name, layer.op, layer.shape, layer.layout) for layer in report.layers] == [
        ("c1", "Conv", ["N", 3, 12, 12], "NCHW"),
        ("r1", "Relu", ["N", 3, 12, 12], "NCHW"),
        ("p1", "MaxPool", ["N", 3, 6, 6], "NCHW"),
        ("c2", "Conv", ["N", 4, 6, 6], "NCHW"),
        ("a", "Relu", ["N", 4, 6, 6], "NCHW"),
    ]
    assert [layer.default for layer in report.layers] == [False, False, False, False, True]
    assert not any(layer.unsupported for layer in report.layers)
    assert json.loads(json.dumps(report.to_dict()))["layers"][-1]["name"] == "a"


def test_the_text():
    lines = inspect(cnn("gap")).text().splitlines()
    assert lines[0] == "the model: opset 17, 8 nodes"
    assert "  input  image  float32 [N,3,12,12]" in lines
    assert "  output  logits  float32 [N,5]" in lines
    assert "  score   logits  (5 classes)" in lines
    marked = [line for line in lines if line.lstrip().startswith("*")]
    assert len(marked) == 1
    assert marked[0].split() == ["*", "a", "Relu", "NCHW", "[N,4,6,6]"]


def test_only_layers_that_all_evidence_passes_are_listed():
    """A branch carries a part of the evidence: it can be named, but it is no candidate to show."""
    text = "x1 = Relu(c2)  x2 = Sigmoid(c2)  a = Concat<axis=1>(x1, x2) " + GAP
    report = inspect(cnn(text, act="", weights={"fc": (C, 8), "fb": (C,)}))
    assert [layer.name for layer in report.layers] == ["c1", "r1", "p1", "c2", "a"]
    assert report.layers[-1].default


def test_layouts():
    model = build(
        "x = Transpose<perm=[0,3,1,2]>(image)  c = Conv(x, w)  t = Transpose<perm=[0,2,3,1]>(c)  a = Relu(t) "
        "flat = ReduceMean<axes=[1,2], keepdims=0>(a)  logits = Gemm<transB=1>(flat, fc, fb)",
        {"w": (4, 3, 3, 3), **GAP_WEIGHTS},
        inputs="float[N,12,12,3] image",
    )
    found = {layer.name: (layer.layout, layer.shape) for layer in inspect(model).layers}
    assert found["c"] == ("NCHW", ["N", 4, 10, 10])
    assert found["a"] == ("NHWC", ["N", 10, 10, 4])


def test_operators_in_the_way_are_shown_for_each_layer():
    text = "d = Det(c2)  u = Unsqueeze(d, ax)  m = Mul(c2, u)  a = Relu(m) " + GAP
    model = cnn(text, act="", weights={**GAP_WEIGHTS, "ax": np.array([2, 3])})
    report = inspect(model)
    behind = {layer.name: layer.unsupported for layer in report.layers}
    assert behind["r1"] == behind["c2"] == {"Det": ["d"]}
    assert behind["m"] == behind["a"] == {}
    assert "no rule for Det" in report.text()


def test_no_layer_is_a_note():
    model = build("h = Gemm(x, w)  logits = Relu(h)", {"w": (8, C)}, inputs="float[N,8] x")
    report = inspect(model)
    assert report.layers == []
    assert any("No spatial layer was found" in note for note in report.notes)
    assert "No spatial layer was found" in report.text()


def test_no_score_is_an_error():
    with pytest.raises(ScoreError, match=r"\[N,4,6,6\]"):
        inspect(cnn("y = Identity(a)", output="float[N,4,6,6] y"))


def test_an_instrumented_model():
    made = instrument(cnn("dense", end="y = Softmax<axis=1>(logits)", output=f"float[N,{C}] y"), layers=["a", "r1"])
    report = inspect(made)
    assert report.instrumented
    assert (report.score, report.classes, report.activation) == ("logits", C, "Softmax")
    assert [(layer.name, layer.shape, layer.layout) for layer in report.layers] == [
        ("a", ["N", 4, 6, 6], "NCHW"),
        ("r1", ["N", 3, 12, 12], "NCHW"),
    ]
    assert [value["name"] for value in report.inputs] == ["image"]
    assert [value["name"] for value in report.outputs][:3] == ["y", "xcam_classes", "xcam_scores"]
    assert "Instrumented already" in report.text()


def test_what_was_raised_is_said():
    report = inspect(cnn("gap", opset=9, ir=4))
    assert report.opset == 11
    assert any("opset 9 to 11" in note for note in report.notes)


def test_weights_that_are_listed_as_inputs_are_not_shown():
    model = cnn("gap")
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    assert [value["name"] for value in inspect(model).inputs] == ["image"]
