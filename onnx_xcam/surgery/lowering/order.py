"""This module puts a model's nodes in topological order.

The ONNX standard wants each node behind those that make its inputs. ONNX Runtime sorts nodes itself, so it also accepts
files that are not in order, as its own float16 converter writes them. The analysis relies on the order and works on a
sorted copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

import onnx

from onnx_xcam.surgery.ir.uses import Uses


def in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model itself if its nodes are in order, else a copy with its nodes in order."""
    sequence = _sequence(model.graph.node)
    if sequence is None:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(model.graph.node[position] for position in sequence)
    return copy


def nodes_in_order(nodes: Sequence[onnx.NodeProto]) -> Sequence[onnx.NodeProto]:
    """Return nodes in topological order, as near to the given order as can be.

    Nodes in a cycle, and those behind it, cannot be ordered and come last.
    """
    sequence = _sequence(nodes)
    return nodes if sequence is None else [nodes[position] for position in sequence]


def _sequence(nodes: Sequence[onnx.NodeProto]) -> list[int] | None:
    """Return the positions of the nodes in topological order, None if the nodes are in order already."""
    uses = Uses(nodes)
    needed = [{uses.maker[name] for name in names if name in uses.maker} for names in uses.reads]
    if all(max(before, default=-1) < position for position, before in enumerate(needed)):
        return None
    return _sorted(needed)


def _sorted(needed: list[set[int]]) -> list[int]:
    """Return positions so that each comes behind those that it needs; where the order is free, the smaller comes first.

    Args:
        needed: for each position, the positions that must come before it.
    """
    readers: dict[int, list[int]] = {}
    for index, before in enumerate(needed):
        for other in before:
            readers.setdefault(other, []).append(index)
    missing = [len(before) for before in needed]
    ready = [index for index, count in enumerate(missing) if not count]
    heapify(ready)
    ordered: list[int] = []
    while ready:
        index = heappop(ready)
        ordered.append(index)
        for reader in readers.get(index, []):
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    placed = set(ordered)
    return ordered + [index for index in range(len(needed)) if index not in placed]
