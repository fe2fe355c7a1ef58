"""This module finds what comes out of a model, what that depends on, and which tensor depends on which."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from onnx_xcam.contract import picture_sides
from onnx_xcam.surgery.analysis.reachability import backward, forward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits


def ends(graph: Graph) -> list[str]:
    """Return the names of the outputs; for an output that is a sequence, those of its elements."""
    names: list[str] = []
    for output in graph.output_names:
        node = graph.producer.get(output)
        packed = node is not None and node.op == "SequenceConstruct"
        names += [tensor.name for tensor in node.inputs] if packed and node is not None else [output]
    return list(dict.fromkeys(names))


def pictures(graph: Graph) -> list[str]:
    """Return the names of the inputs that are images, or of all inputs if none is."""
    plain = [name for name in graph.input_names if not graph.is_constant(name)]
    return [name for name in plain if picture_sides(graph.shape(name) or ()) is not None] or plain


def image_dependent(graph: Graph) -> frozenset[str]:
    """Return the tensors that depend on a picture."""
    return forward(graph.uses, pictures(graph)).tensors


def leads_to(graph: Graph, name: str, other: str) -> bool:
    """Tell whether another tensor depends on this one through a layer with weights, as scores do on an embedding."""
    weighted = [node for node in forward(graph.uses, [name]).nodes if traits(node).weighted]
    return other in forward(graph.uses, [out.name for node in weighted for out in node.outputs]).tensors


def makers(graph: Graph, name: str) -> Iterator[gs.Node]:
    """Yield the nodes that a tensor depends on, last to first, with the nodes of their branches and bodies."""
    for node in reversed(backward(graph.uses, [name]).nodes):
        yield from _with_inner(node)


def inputs_behind(graph: Graph, name: str) -> list[str]:
    """Return the inputs that a tensor depends on, in the graph's order."""
    read = backward(graph.uses, [name]).tensors
    return [given for given in graph.input_names if given in read and not graph.is_constant(given)]


def _with_inner(node: gs.Node) -> Iterator[gs.Node]:
    """Yield a node and the nodes of its subgraphs, at any depth."""
    yield node
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from _with_inner(inner)
