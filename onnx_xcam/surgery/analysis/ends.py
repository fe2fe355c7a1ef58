"""This module finds what comes out of a model, what that is made of, and which tensor depends on which."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from onnx_xcam.contract import image_axes
from onnx_xcam.surgery.analysis.reachability import backward, forward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits


def ends(graph: Graph) -> list[str]:
    """The outputs; of one that is a sequence, the tensors that are put into it."""
    found: list[str] = []
    for output in graph.output_names:
        node = graph.producer.get(output)
        packed = node is not None and node.op == "SequenceConstruct"
        found += [tensor.name for tensor in node.inputs] if packed and node is not None else [output]
    return list(dict.fromkeys(found))


def pictures(graph: Graph) -> list[str]:
    """The inputs that are images, all inputs if none is."""
    plain = [name for name in graph.input_names if not graph.is_constant(name)]
    return [name for name in plain if image_axes(graph.shape(name) or ()) is not None] or plain


def seen(graph: Graph) -> frozenset[str]:
    """The tensors that depend on a picture."""
    return forward(graph.uses, pictures(graph)).tensors


def leads_to(graph: Graph, name: str, other: str) -> bool:
    """Whether another tensor is made of this one by a layer with weights, as scores are of an embedding."""
    weighted = [node for node in forward(graph.uses, [name]).nodes if traits(node).weighted]
    return other in forward(graph.uses, [out.name for node in weighted for out in node.outputs]).tensors


def makers(graph: Graph, name: str) -> Iterator[gs.Node]:
    """The nodes that a tensor is made by, last to first; those in their branches and bodies too."""
    for node in reversed(backward(graph.uses, [name]).nodes):
        yield from _with_inner(node)


def inputs_behind(graph: Graph, name: str) -> list[str]:
    """The inputs that a tensor is made of, in the graph's order."""
    read = backward(graph.uses, [name]).tensors
    return [given for given in graph.input_names if given in read and not graph.is_constant(given)]


def _with_inner(node: gs.Node) -> Iterator[gs.Node]:
    yield node
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from _with_inner(inner)
