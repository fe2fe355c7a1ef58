"""This module cuts the part out of a model that makes some of its tensors."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.uses import Uses


def part_making(
    model: onnx.ModelProto, outputs: Sequence[str], uses: Uses[onnx.NodeProto] | None = None
) -> onnx.ModelProto:
    """Return the part of a model that makes some tensors, with these as outputs.

    Args:
        model: a model, which may lack its weights.
        outputs: the names of the tensors.
        uses: what the model's nodes read and make, if it is known already.
    """
    graph = model.graph
    behind = backward(Uses(graph.node) if uses is None else uses, outputs)
    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.functions.extend(model.functions)
    part.graph.name = graph.name
    part.graph.node.extend(behind.nodes)
    part.graph.initializer.extend(tensor for tensor in graph.initializer if tensor.name in behind.tensors)
    part.graph.input.extend(value for value in graph.input if value.name in behind.tensors)
    noted = {value.name: value for value in (*graph.value_info, *graph.output)}
    for name in outputs:
        part.graph.output.append(noted.get(name) or onnx.ValueInfoProto(name=name))
    kept = {name for node in behind.nodes for name in node.output} - set(outputs)
    part.graph.value_info.extend(value for value in graph.value_info if value.name in kept)
    return part
