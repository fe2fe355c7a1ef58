"""A part of the graph as a model of its own: a single node, or the head from a layer to the score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.protos import MICROSOFT, QUANTISERS
from onnx_xcam.surgery.lowering import lowered

_IR_VERSION = 8
_FLOAT_KINDS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """A serialised model with more of its tensors as outputs; ONNX Runtime finds out their types."""
    tail = onnx.ModelProto()
    for name in names:
        tail.graph.output.add().name = name
    added: bytes = tail.SerializeToString()
    return model + added


def as_analysed(model: bytes) -> bytes:
    """A serialised model with its operators lowered to standard ones, so that it has every tensor of the analysis."""
    given = onnx.ModelProto.FromString(model)
    found = lowered(given)
    if not found.inner:
        return model
    # The standard's own have some types from later opsets on only.
    others = {node.output[0] for node in given.graph.node if node.domain and node.op_type in _ROUNDING}
    for node in found.model.graph.node:
        if node.output[0] in others:
            node.domain = MICROSOFT
    result: bytes = found.model.SerializeToString()
    return result


def head_inputs(graph: Graph, layer: str, score: str) -> list[str]:
    """What the head needs besides the layer: tensors that do not depend on it."""
    return _cut(graph, layer, score)[1]


def head_nodes(graph: Graph, layer: str, score: str) -> list[gs.Node]:
    """The nodes from a layer to the score, all that its values reach, in topological order."""
    return [graph.nodes[index] for index in _cut(graph, layer, score)[0]]


def head_model(graph: Graph, weights: Mapping[str, onnx.TensorProto], layer: str, score: str) -> onnx.ModelProto:
    """The part from a layer to the score as a model.

    Args:
        graph: the whole model.
        weights: its initializers, by name.
        layer: the first input of the result.
        score: its only output.

    Returns:
        A model with the inputs `layer` and `head_inputs(...)`.
    """
    indices, others = _cut(graph, layer, score)
    nodes = [exported(graph.nodes[i]) for i in indices]
    used = {name for node in nodes for name in node.input}
    inputs = [_info(graph, name) for name in (layer, *others)]
    initializers = [weights[name] for name in weights if name in used]
    body = onnx.helper.make_graph(nodes, "head", inputs, [_info(graph, score)], initializers)
    return onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", graph.opset)], ir_version=_IR_VERSION
    )


def _cut(graph: Graph, layer: str, score: str) -> tuple[list[int], list[str]]:
    """The positions of the head's nodes, and the other tensors that cross the cut."""
    behind = {layer}
    for node in graph.nodes:
        if layer not in {out.name for out in node.outputs} and any(t.name in behind for t in node.inputs):
            behind.update(out.name for out in node.outputs if out.name)
    needed, crossing = {score}, set[str]()
    kept: list[int] = []
    for index in range(len(graph.nodes) - 1, -1, -1):
        node = graph.nodes[index]
        if not any(out.name in needed for out in node.outputs):
            continue
        if not any(out.name in behind for out in node.outputs) or layer in {out.name for out in node.outputs}:
            continue
        kept.append(index)
        needed.update(t.name for t in node.inputs if t.name)
        crossing.update(t.name for t in node.inputs if t.name and t.name not in behind)
    return kept[::-1], sorted(name for name in crossing if not graph.is_constant(name) or _is_made(graph, name))


def _is_made(graph: Graph, name: str) -> bool:
    """Whether a known constant is made by a node, not stored in the file."""
    return name in graph.producer


def _info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    dtype, shape = graph.dtype(name), graph.shape(name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype or np.dtype(np.float32))
    return onnx.helper.make_tensor_value_info(name, kind, None if shape is None else list(shape))


def node_model(
    graph: Graph, forward: Sequence[gs.Node], values: Mapping[str, np.ndarray], free: Sequence[str]
) -> onnx.ModelProto:
    """One node, or several that belong together, as a model in float64.

    Args:
        graph: the whole model.
        forward: the nodes, in topological order; the last one's outputs are the model's.
        values: the values of what the nodes read from outside; float ones are taken as float64.
        free: the inputs that stay inputs; the others become initializers.
    """
    nodes = [_in_double(exported(node)) for node in forward]
    made = {name for node in nodes for name in node.output}
    counts = {values[name].dtype for name in free if values[name].dtype.kind != "f"}
    inputs, initializers = [], []
    for name in dict.fromkeys(name for node in nodes for name in node.input if name and name not in made):
        array = as_double(values[name])
        if array.dtype in counts:  # quantised integers are seen as the numbers they are, and so are bounds of them
            array = array.astype(np.float64)
        if name in free:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(onnx.helper.make_tensor_value_info(name, kind, array.shape))
        else:
            initializers.append(onnx.numpy_helper.from_array(array, name))
    outputs = []
    for name in nodes[-1].output:
        if name:
            shape: Sequence[Dim] | None = graph.shape(name)
            fixed = None if shape is None else [None] * len(shape)
            kind_out = _double_kind(graph, forward[-1], name)
            outputs.append(onnx.helper.make_tensor_value_info(name, kind_out, fixed))
    body = onnx.helper.make_graph(nodes, "node", inputs, outputs, initializers)
    return onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", graph.opset)], ir_version=_IR_VERSION
    )


def _in_double(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node, changed: a Cast from one float type to another rounds to float64 only."""
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i in _FLOAT_KINDS:
            attribute.i = onnx.TensorProto.DOUBLE
    return node


def _double_kind(graph: Graph, node: gs.Node, name: str) -> int:
    """The type of an output where floats are float64, and what quantisers have made is seen as numbers."""
    if node.op in QUANTISERS:
        return int(onnx.helper.np_dtype_to_tensor_dtype(graph.dtype(name) or np.dtype(np.uint8)))
    carries = graph.is_float(name) or name in graph.quantised
    return int(onnx.TensorProto.DOUBLE if carries else onnx.TensorProto.INT64)


def as_double(array: np.ndarray) -> np.ndarray:
    """Floats as float64, anything else as it is."""
    return array.astype(np.float64) if array.dtype.kind == "f" else array
