"""Models converted to half precision."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def halved(model: onnx.ModelProto, *, keep_io: bool = False) -> onnx.ModelProto:
    """The model with all of its floats in half precision, those of inputs and outputs too unless they are kept."""
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    constants = [a.t for node in graph.node for a in node.attribute if a.name == "value" and a.HasField("t")]
    for tensor in (*graph.initializer, *constants):
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    if keep_io:
        _keep_io(graph)
    return half


def _keep_io(graph: onnx.GraphProto) -> None:
    """Casts behind the inputs and before the outputs, as converters write them, with a note that says no shape."""
    for value in graph.input:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            node.input[:] = [f"{name}_half" if name == value.name else name for name in node.input]
        graph.node.insert(0, helper.make_node("Cast", [value.name], [f"{value.name}_half"], to=TensorProto.FLOAT16))
    for value in graph.output:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
        for node in graph.node:
            node.output[:] = [f"{name}_half" if name == value.name else name for name in node.output]
        graph.node.append(helper.make_node("Cast", [f"{value.name}_half"], [value.name], to=TensorProto.FLOAT))
        graph.value_info.append(helper.make_tensor_value_info(value.name, TensorProto.FLOAT, None))
