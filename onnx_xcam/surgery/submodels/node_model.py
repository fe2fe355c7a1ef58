"""This module makes a model of a single node, or of several that belong together, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.op_traits import proto_traits, traits
from onnx_xcam.surgery.ir.protos import IR_VERSION, subgraphs
from onnx_xcam.surgery.ir.uses import names_read
from onnx_xcam.surgery.submodels.branches import fill_branches

_FLOAT_KINDS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def node_model(
    graph: Graph,
    forward: Sequence[gs.Node],
    values: Mapping[str, np.ndarray],
    free: Sequence[str],
    source: Source | None = None,
) -> onnx.ModelProto:
    """Return a node, or several that belong together, as a model in float64.

    Args:
        graph: the whole model.
        forward: the nodes, in topological order; the last one's outputs are the model's.
        values: the values of the tensors that the nodes read from outside; floats become float64.
        free: the inputs that stay inputs; the others become initializers.
        source: the whole model's file, where nodes may have subgraphs with weights.
    """
    nodes = [exported(node) for node in forward]
    if source is not None:
        fill_branches(nodes, source)
    for node in nodes:
        _put_in_double(node)
    made = {name for node in nodes for name in node.output}
    counts = {values[name].dtype for name in free if values[name].dtype.kind != "f"}
    inputs, initializers = [], []
    for name in dict.fromkeys(name for node in forward for name in names_read(node) if name not in made):
        array = as_double(values[name])
        if array.dtype in counts:  # quantised integers and their bounds become the same numbers in float64
            array = array.astype(np.float64)
        if name in free:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
        else:
            initializers.append(numpy_helper.from_array(array, name))
    outputs = []
    for name in nodes[-1].output:
        if name:
            shape: Sequence[Dim] | None = graph.shape(name)
            fixed = None if shape is None else [None] * len(shape)
            kind_out = _double_kind(graph, forward[-1], name)
            outputs.append(onnx.helper.make_tensor_value_info(name, kind_out, fixed))
    body = onnx.helper.make_graph(nodes, "node", inputs, outputs, initializers)
    return onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", graph.opset)], ir_version=IR_VERSION
    )


def _put_in_double(node: onnx.NodeProto) -> None:
    """Change a node, in place, so that floats that its subgraphs store and that its Casts make are float64."""
    for attribute in node.attribute:
        if proto_traits(node).casts and attribute.name == "to" and attribute.i in _FLOAT_KINDS:
            attribute.i = onnx.TensorProto.DOUBLE
    for graph in subgraphs(node):
        inside = [attribute.t for inner in graph.node for attribute in inner.attribute if attribute.HasField("t")]
        for tensor in (*graph.initializer, *inside):
            if tensor.data_type in _FLOAT_KINDS:
                tensor.CopyFrom(numpy_helper.from_array(as_double(numpy_helper.to_array(tensor)), tensor.name))
        for inner in graph.node:
            _put_in_double(inner)


def _double_kind(graph: Graph, node: gs.Node, name: str) -> int:
    """Return the ONNX type of an output where floats are float64 and quantised integers are numbers of float64."""
    if traits(node).quantises:
        return int(onnx.helper.np_dtype_to_tensor_dtype(graph.dtype(name) or np.dtype(np.uint8)))
    carries = graph.is_float(name) or name in graph.quantised
    return int(onnx.TensorProto.DOUBLE if carries else onnx.TensorProto.INT64)


def as_double(array: np.ndarray) -> np.ndarray:
    """Return floats as float64, and any other array as it is."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array
