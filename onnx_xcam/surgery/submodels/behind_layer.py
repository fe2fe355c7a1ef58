"""This module cuts out the part behind a layer: the nodes that depend on the layer and lead to the score.

The tensors that this part reads from the rest of the model *cross* the cut: the layer itself, and the tensors that
bypass it. Stored tensors, and those known without a run, do not cross; they go along with the nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.reachability import Part, between
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.protos import IR_VERSION


def behind_layer(graph: Graph, layer: str, score: str, held: Collection[str] = ()) -> Part[gs.Node]:
    """Return the part behind a layer: all nodes that the layer's values reach on their way to the score.

    Args:
        graph: the model.
        layer: the layer.
        score: the score.
        held: tensors that stay as they are, so that the part has no way through them: the other members of a cut.
    """
    return between(graph.uses, [layer], [score], leaves=lambda _, name: name not in held)


def names_read_by(graph: Graph, positions: Collection[int]) -> set[str]:
    """Return the tensors that the nodes at some positions read."""
    return {name for position in positions for name in graph.uses.reads[position]}


def crossing(graph: Graph, positions: Collection[int]) -> set[str]:
    """Return the tensors that the nodes at some positions read and do not make, without those known without a run."""
    made = {name for position in positions for name in graph.uses.makes[position]}
    return {name for name in names_read_by(graph, positions) - made if not graph.is_constant(name)}


def bypassing_tensors(graph: Graph, layer: str, score: str) -> list[str]:
    """Return the tensors that the part behind a layer needs besides the layer, sorted by name: they bypass it."""
    return sorted(crossing(graph, behind_layer(graph, layer, score).positions) - {layer})


def stored_for(graph: Graph, names: Collection[str], weights: Mapping[str, onnx.TensorProto]) -> list[onnx.TensorProto]:
    """Return those of some tensors that are known without a run, sorted by name.

    Args:
        graph: the model.
        names: the tensors.
        weights: the model's initializers, by name.
    """
    known = graph.constants
    return [
        weights[name] if name in weights else onnx.numpy_helper.from_array(np.asarray(known[name]), name)
        for name in sorted(names)
        if name in weights or name in known
    ]


def model_behind(graph: Graph, weights: Mapping[str, onnx.TensorProto], layer: str, score: str) -> onnx.ModelProto:
    """Return the part behind a layer as a model.

    Args:
        graph: the whole model.
        weights: its initializers, by name.
        layer: the first input of the result.
        score: the only output of the result.

    Returns:
        A model with the inputs `layer` and `bypassing_tensors(...)`.
    """
    part = behind_layer(graph, layer, score)
    inputs = [_info(graph, name) for name in (layer, *bypassing_tensors(graph, layer, score))]
    made = {name for position in part.positions for name in graph.uses.makes[position]}
    stored = stored_for(graph, names_read_by(graph, part.positions) - made - {layer}, weights)
    nodes = [exported(node) for node in part.nodes]
    body = onnx.helper.make_graph(nodes, "behind_layer", inputs, [_info(graph, score)], stored)
    return onnx.helper.make_model(
        body, opset_imports=[onnx.helper.make_opsetid("", graph.opset)], ir_version=IR_VERSION
    )


def _info(graph: Graph, name: str) -> onnx.ValueInfoProto:
    """Return a tensor's name, type and shape as an input or output of a model."""
    dtype, shape = graph.dtype(name), graph.shape(name)
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype or np.dtype(np.float32))
    return onnx.helper.make_tensor_value_info(name, kind, None if shape is None else list(shape))
