"""Which tensors come out of a model, what they are made of, and which of them depends on which."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_graphsurgeon as gs

from onnx_xcam.contract import image_axes
from onnx_xcam.surgery.ir.graph import Graph, inputs_of

_WEIGHTED = frozenset({"MatMul", "Gemm", "Conv", "MatMulInteger", "QLinearMatMul", "QLinearConv", "QGemm"})


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


def seen(graph: Graph) -> set[str]:
    """The tensors that depend on a picture."""
    return _behind(graph, pictures(graph))


def _behind(graph: Graph, names: Iterable[str]) -> set[str]:
    reached = set(names)
    for node in graph.nodes:
        if any(tensor.name in reached for tensor in inputs_of(node)):
            reached.update(out.name for out in node.outputs if out.name)
    return reached


def leads_to(graph: Graph, name: str, other: str) -> bool:
    """Whether another tensor is made of this one by a layer with weights, as scores are of an embedding."""
    reached, weighted = {name}, set[str]()
    for node in graph.nodes:
        names = {tensor.name for tensor in node.inputs}
        if names & weighted or (node.op in _WEIGHTED and names & reached):
            weighted.update(out.name for out in node.outputs)
        elif names & reached:
            reached.update(out.name for out in node.outputs)
    return other in weighted


def makers(graph: Graph, name: str) -> Iterator[gs.Node]:
    """The nodes that a tensor is made by, last to first; those in their branches and bodies too."""
    needed = {name}
    for node in reversed(graph.nodes):
        if any(out.name in needed for out in node.outputs):
            needed.update(tensor.name for tensor in inputs_of(node))
            yield from _with_inner(node)


def inputs_behind(graph: Graph, name: str) -> list[str]:
    """The inputs that a tensor is made of, in the graph's order."""
    read = {tensor.name for node in makers(graph, name) for tensor in inputs_of(node)}
    return [given for given in graph.input_names if given in read and not graph.is_constant(given)]


def _with_inner(node: gs.Node) -> Iterator[gs.Node]:
    yield node
    for value in node.attrs.values():
        if isinstance(value, gs.Graph):
            for inner in value.nodes:
                yield from _with_inner(inner)
