"""This module puts a model's nodes in order.

ONNX wants each node behind those whose outputs it reads. ONNX Runtime sorts for itself and takes files that are not in
order, such as its own float16 converter writes; the analysis goes by the order and looks at a sorted copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import onnx

from onnx_xcam.surgery.ir.uses import Uses


def in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself if its nodes are in order, else a copy with its nodes in order."""
    sequence = _sequence(model.graph.node)
    if sequence is None:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(model.graph.node[position] for position in sequence)
    return copy


def nodes_in_order(nodes: Sequence[onnx.NodeProto]) -> Sequence[onnx.NodeProto]:
    """The nodes of a graph in an order in which each comes behind those that it needs, as near to the given as can be.

    Nodes that cannot be ordered, in a cycle or behind a tensor that nothing makes, come last.
    """
    sequence = _sequence(nodes)
    return nodes if sequence is None else [nodes[position] for position in sequence]


def _sequence(nodes: Sequence[onnx.NodeProto]) -> list[int] | None:
    """The positions of the nodes in order; None if they are in order."""
    uses = Uses(nodes)
    needed = [{uses.maker[name] for name in names if name in uses.maker} for names in uses.reads]
    if all(max(before, default=-1) < position for position, before in enumerate(needed)):
        return None
    return _sorted(needed)


def _sorted(needed: list[set[int]]) -> list[int]:
    """Positions in an order in which each comes behind those that it needs, else the smaller one first."""
    readers: dict[int, list[int]] = {}
    for index, before in enumerate(needed):
        for other in before:
            readers.setdefault(other, []).append(index)
    missing = [len(before) for before in needed]
    ready = [index for index, count in enumerate(missing) if not count]
    heapify(ready)
    found: list[int] = []
    while ready:
        index = heappop(ready)
        found.append(index)
        for reader in readers.get(index, []):
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    placed = set(found)
    return found + [index for index in range(len(needed)) if index not in placed]
