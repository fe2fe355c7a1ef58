"""This module gives the function bodies by which the ONNX standard defines composite operators.

An operator without a gradient rule is differentiated through its body, a graph of its own beside the model's. The
node's inputs and outputs have the same names in it. The tensors between do not exist in the model; where the backward
pass needs one, the tail computes it.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_graphsurgeon as gs
from onnx import inliner

from onnx_xcam.errors import ModelError, UnexpectedError
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.protos import is_standard

_IR_VERSION = 10


def body_of(graph: Graph, node: gs.Node) -> Graph | None:
    """Return a node's function body, None where the standard gives none, or one with control flow."""
    key = next(out.name for out in node.outputs if out.name)
    if key not in graph.bodies:
        graph.bodies[key] = _body(graph, node, key)
    return graph.bodies[key]


def _body(graph: Graph, node: gs.Node, key: str) -> Graph | None:
    """Build a node's function body; `key` is the prefix of the names of its inner tensors."""
    schema = _schema(graph, node)
    if schema is None or any(graph.dtype(t.name) is None for t in node.inputs if t.name):
        return None
    try:
        model = inliner.inline_selected_functions(
            _alone(graph, node, schema), [("", node.op)], inline_schema_functions=True
        )
    except RuntimeError:
        return None  # the standard has no body for this form of the operator
    if any(inside.op_type == node.op for inside in model.graph.node):
        return None  # the standard has no body at this opset
    _fill_in(model, graph)
    inner = _renamed(model, {out.name for out in node.outputs}, key)
    if inner is None:
        return None
    try:
        body = prepare(model, f"the body of {node.op}")
    except UnexpectedError:
        raise
    except ModelError:
        return None  # the body does not work for these types
    body.outer, body.inner = graph, inner
    return body


def _schema(graph: Graph, node: gs.Node) -> onnx.defs.OpSchema | None:
    """Return the operator's schema if it has a function body at the graph's opset, else None."""
    if not is_standard(node.domain) or not has_body(node.op, graph.opset):
        return None
    return onnx.defs.get_schema(node.op, graph.opset)


def has_body(op: str, opset: int) -> bool:
    """Tell whether the standard defines an operator by a function body at an opset."""
    if not onnx.defs.has(op, opset):
        return False
    schema: Any = onnx.defs.get_schema(op, opset)  # onnx's type stubs lack these two
    return bool(schema.has_function or schema.has_context_dependent_function)


def _alone(graph: Graph, node: gs.Node, schema: onnx.defs.OpSchema) -> onnx.ModelProto:
    """Return a model of this node only, in which attributes that are not given have their default values."""
    proto = exported(node)
    proto.domain = ""
    given = {attribute.name for attribute in proto.attribute}
    for name, attribute in schema.attributes.items():
        if name not in given and attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            proto.attribute.append(attribute.default_value)  # the inliner does not fill in defaults
    names = list(dict.fromkeys(name for name in proto.input if name))
    body = onnx.helper.make_graph(
        [proto],
        "body",
        [_info(graph, name) for name in names],
        [_info(graph, name) for name in proto.output if name],
    )
    opset = onnx.helper.make_opsetid("", graph.opset)
    return onnx.helper.make_model(body, opset_imports=[opset], ir_version=_IR_VERSION)


def _fill_in(model: onnx.ModelProto, graph: Graph) -> None:
    """Turn the inputs of a body that are constants of the graph into initializers."""
    for info in [info for info in model.graph.input if info.name in graph.constants]:
        model.graph.initializer.append(onnx.numpy_helper.from_array(graph.constants[info.name], info.name))
        model.graph.input.remove(info)


def _info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    """Return the name, element type and shape of a tensor as an input or output of a model."""
    dtype, shape = graph.dtype(name), graph.shape(name)
    kind = onnx.TensorProto.UNDEFINED if dtype is None else onnx.helper.np_dtype_to_tensor_dtype(dtype)
    return onnx.helper.make_tensor_value_info(name, kind, None if shape is None else list(shape))


def _renamed(model: onnx.ModelProto, kept: set[str], prefix: str) -> frozenset[str] | None:
    """Put a prefix before the names of all inner tensors, and return their new names, None if there is control flow.

    Args:
        model: the body, which is changed in place.
        kept: the names of the node's outputs, which stay.
        prefix: the prefix.
    """
    nodes = model.graph.node
    if any(attribute.HasField("g") or attribute.graphs for node in nodes for attribute in node.attribute):
        return None
    names = {name: f"{prefix}/{name}" for node in nodes for name in node.output if name and name not in kept}
    for node in nodes:
        for tensors in (node.input, node.output):
            renamed = [names.get(name, name) for name in tensors]
            del tensors[:]
            tensors.extend(renamed)
    return frozenset(names.values())
