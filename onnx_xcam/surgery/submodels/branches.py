"""This module gives the subgraphs of a part of a model the weights that the analysed graph lacks, since they are large.

A subgraph of an analysed node stores what it captures of the graph around it, beside what the file stores in it. Of a
large tensor neither has values: they are in the model's file, or in the file that the tensor refers to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.files.wire import is_stripped
from onnx_xcam.surgery.ir.protos import subgraphs

Place = tuple[str, ...]
"""Where a subgraph stores a tensor: the first outputs of the nodes around it and the subgraphs' positions in them, from
the outside in, and last the tensor's name."""


def fill_branches(nodes: Iterable[onnx.NodeProto], source: Source) -> None:
    """Fill in the values of large tensors that the subgraphs of nodes store, in place.

    Args:
        nodes: exported nodes of the analysed model.
        source: the model.

    Raises:
        ModelError: the model or its external data cannot be read.
    """
    stored = list(_stored(nodes))
    stripped = [(place, tensor) for place, tensor in stored if is_stripped(tensor)]
    if stripped:
        whole = source.load(external=lambda _: False)
        inside = dict(_stored(whole.graph.node))
        outside = {tensor.name: tensor for tensor in whole.graph.initializer}
        for place, tensor in stripped:
            name = tensor.name
            tensor.CopyFrom(inside[place] if place in inside else outside[name])
            tensor.name = name
    for _, tensor in stored:
        source.fetch(tensor)


def _stored(nodes: Iterable[onnx.NodeProto], around: Place = ()) -> Iterator[tuple[Place, onnx.TensorProto]]:
    """Yield the tensors that the nodes' subgraphs store, as initializers or in Constant nodes, and where they do."""
    for node in nodes:
        for position, graph in enumerate(subgraphs(node)):
            here = (*around, next(iter(node.output), ""), str(position))
            yield from (((*here, tensor.name), tensor) for tensor in graph.initializer)
            for inner in graph.node:
                yield from (((*here, inner.output[0]), a.t) for a in inner.attribute if a.HasField("t"))
            yield from _stored(graph.node, here)
