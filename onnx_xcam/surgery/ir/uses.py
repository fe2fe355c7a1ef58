"""This module finds which tensors each node reads and makes, for a file's message and for the analysed graph alike.

A node reads its inputs, and what its subgraphs *capture*: the outer tensors that their nodes read, or that they return
as they are. What a subgraph defines itself (its inputs, its stored tensors, what its nodes make) is another tensor,
even where an outer one has the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any, Generic, TypeAlias, TypeVar

import onnx
import onnx_graphsurgeon as gs

Node: TypeAlias = "gs.Node | onnx.NodeProto"
"""A node of an onnx_graphsurgeon graph, or of a file's message."""
N = TypeVar("N")


def names_read(node: Node) -> Iterator[str]:
    """Yield the tensors that a node reads, once for each time: its inputs, then what its subgraphs capture.

    Inputs that are left out are skipped. For an onnx_graphsurgeon node, stored tensors that are captured are skipped
    too: there it is not known whether the subgraph or the graph around it stores them.
    """
    yield from (tensor.name for tensor in node.inputs if tensor.name) if _is_gs(node) else filter(None, node.input)
    yield from captured(node)


def names_made(node: Node) -> list[str]:
    """Return the tensors that a node makes, without outputs that are left out."""
    return [tensor.name for tensor in node.outputs if tensor.name] if _is_gs(node) else list(filter(None, node.output))


def captured(node: Node, *, without: str = "") -> Iterator[str]:
    """Yield the tensors that a node's subgraphs take from outside, except for the subgraph of one attribute."""
    for name, body in _bodies(node):
        if name != without:
            yield from _free(body)


def _is_gs(node: Node) -> bool:
    """Tell whether a node is one of onnx_graphsurgeon."""
    return isinstance(node, gs.Node)


def _bodies(node: Node) -> Iterator[tuple[str, Any]]:
    """Yield the subgraphs of a node with the names of their attributes."""
    if _is_gs(node):
        for name, value in node.attrs.items():
            if isinstance(value, gs.Graph):
                yield name, value
            elif isinstance(value, list):
                yield from ((name, one) for one in value if isinstance(one, gs.Graph))
        return
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        yield from ((attribute.name, graph) for graph in attribute.graphs)


def _free(body: gs.Graph | onnx.GraphProto) -> Iterator[str]:
    """Yield the tensors that a subgraph reads or returns and does not define."""
    if isinstance(body, gs.Graph):
        nodes, outputs = body.nodes, body.outputs
        local = {tensor.name for tensor in body.inputs}
        local.update(t.name for inner in nodes for t in inner.inputs if isinstance(t, gs.Constant))
        local.update(tensor.name for tensor in outputs if isinstance(tensor, gs.Constant))
    else:
        nodes, outputs = body.node, body.output
        local = {info.name for info in (*body.input, *body.initializer)}
        local.update(sparse.values.name for sparse in body.sparse_initializer)
    local.update(name for inner in nodes for name in names_made(inner))
    for inner in nodes:
        yield from (name for name in names_read(inner) if name not in local)
    yield from (tensor.name for tensor in outputs if tensor.name and tensor.name not in local)


class Uses(Generic[N]):
    """A Uses holds what the nodes of one graph read and make, looked up once.

    Args:
        nodes: the nodes, in any order.
        reads: returns what a node reads.

    Attributes:
        nodes: the nodes; everything else names them by their positions.
    """

    def __init__(self, nodes: Iterable[N], reads: Callable[[N], Iterable[str]] = names_read) -> None:
        self.nodes = list(nodes)
        self._reads = reads

    @cached_property
    def reads(self) -> list[tuple[str, ...]]:
        """Return what each node reads, once for each time."""
        return [tuple(self._reads(node)) for node in self.nodes]

    @cached_property
    def makes(self) -> list[tuple[str, ...]]:
        """Return what each node makes."""
        return [tuple(names_made(node)) for node in self.nodes]

    @cached_property
    def maker(self) -> dict[str, int]:
        """Return the position of the node that makes each tensor."""
        return {name: position for position, names in enumerate(self.makes) for name in names}

    @cached_property
    def readers(self) -> dict[str, list[int]]:
        """Return the positions of the nodes that read each tensor, once for each time that they do."""
        readers_of: dict[str, list[int]] = {}
        for position, names in enumerate(self.reads):
            for name in names:
                readers_of.setdefault(name, []).append(position)
        return readers_of
