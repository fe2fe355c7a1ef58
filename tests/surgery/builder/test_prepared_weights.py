"""Weights that the backward pass needs in another form are brought into it once, when the model is loaded."""

from __future__ import annotations

import onnx
import onnxruntime as ort
import pytest

from helpers.external_models import save_external
from helpers.models import cnn
from onnx_xcam import instrument_file


@pytest.mark.parametrize("outside", [False, True])
def test_prepared_weights_are_folded_at_load(outside, tmp_path):
    """Flipped and transposed weights are made by nodes; ONNX Runtime must make them once, not in every run."""
    model = cnn("dense")
    path = tmp_path / "m.onnx"
    if outside:
        save_external(tmp_path, model=model)
    else:
        onnx.save(model, path)
    made = tmp_path / "out.onnx"
    instrument_file(path, made, layers="r1", emit=["map"])
    added = constant_nodes(onnx.load(made))
    assert {"Transpose", "Gather"} <= {node.op_type for node in added}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    for level, left in (("ORT_DISABLE_ALL", len(added)), ("ORT_ENABLE_BASIC", 0), ("ORT_ENABLE_ALL", 0)):
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(tmp_path / f"{level}.onnx")
        ort.InferenceSession(str(made), options, providers=["CPUExecutionProvider"])
        assert len(constant_nodes(onnx.load(options.optimized_model_filepath, load_external_data=False))) == left


def constant_nodes(model):
    """The nodes that depend on constants alone."""
    known = {tensor.name for tensor in model.graph.initializer} - {value.name for value in model.graph.input}
    found = []
    for node in model.graph.node:
        if node.op_type == "Constant" or (node.input and all(not name or name in known for name in node.input)):
            known.update(node.output)
            found += [node] if node.op_type != "Constant" else []
    return found
