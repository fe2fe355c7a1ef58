"""The front of a model, from a picture to the first layers with weights."""

from __future__ import annotations

import onnx
import pytest

from helpers.models import cnn
from onnx_xcam import instrument
from onnx_xcam.surgery.submodels.front import front


@pytest.fixture
def model() -> onnx.ModelProto:
    made = cnn("dense")
    first = next(node for node in made.graph.node if "image" in node.input)
    first.input[list(first.input).index("image")] = "scaled"
    constant = onnx.helper.make_node("Constant", [], ["k"], value_float=255.0)
    made.graph.node.insert(0, onnx.helper.make_node("Div", ["image", "k"], ["scaled"]))
    made.graph.node.insert(0, constant)
    return made


def test_it_ends_behind_the_first_layer_with_weights(model):
    part = front(model, "image")
    assert [node.op_type for node in part.graph.node] == ["Constant", "Div", "Conv"]
    assert [value.name for value in part.graph.input] == ["image"]
    assert list(part.graph.node[-1].output) == [value.name for value in part.graph.output]
    assert {tensor.name for tensor in part.graph.initializer} == set(part.graph.node[-1].input) - {"scaled"}


def test_it_is_the_same_of_the_instrumented_model(model):
    made = onnx.load_model_from_string(instrument(model).SerializeToString())
    assert front(made, "image").graph.node == front(model, "image").graph.node
