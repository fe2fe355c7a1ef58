"""This module finds operators that neither ONNX nor ONNX Runtime has, so that nothing is known of what they do."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.common.operators import RUNTIME_DOMAINS, Foreign
from onnx_xcam.surgery.ir.protos import is_standard, subgraphs
from onnx_xcam.surgery.lowering import LOWERINGS


def foreign_operators(model: onnx.ModelProto) -> Foreign:
    """Return the foreign operators of a model, including those of its subgraphs and local functions."""
    opset = next((entry.version for entry in model.opset_import if is_standard(entry.domain)), 1)
    own = {(function.domain, function.name) for function in model.functions}
    foreign = Foreign()
    stack = [*model.graph.node[::-1], *(node for function in model.functions for node in function.node)]
    while stack:
        node = stack.pop()
        if (node.domain, node.op_type) not in own and is_foreign(node.domain, node.op_type, opset):
            foreign.add(node.domain, node.op_type, node.name or next(iter(node.output), ""))
        stack += [inner for graph in subgraphs(node) for inner in graph.node]
    return foreign


def foreign_among(nodes: Iterable[gs.Node], opset: int) -> Foreign:
    """Return the foreign operators among the nodes of an analysed graph, and in their subgraphs."""
    foreign = Foreign()
    stack = list(nodes)[::-1]
    while stack:
        node = stack.pop()
        if is_foreign(node.domain, node.op, opset):
            foreign.add(node.domain, node.op, node.name or next((tensor.name for tensor in node.outputs), ""))
        stack += [inner for graph in node.attrs.values() if isinstance(graph, gs.Graph) for inner in graph.nodes]
    return foreign


def is_foreign(domain: str | None, op: str, opset: int) -> bool:
    """Tell whether an operator is unknown to ONNX at this opset, to ONNX Runtime's domains and to the lowerings."""
    if is_standard(domain):
        return not onnx.defs.has(op, opset)
    return domain not in RUNTIME_DOMAINS and (domain, op) not in LOWERINGS
