"""The order of a model's nodes.

ONNX wants each node behind those whose outputs it reads. ONNX Runtime sorts for itself and takes files that are not in
order, such as its own float16 converter writes; the analysis goes by the order and looks at a sorted copy.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import onnx

from onnx_xcam.surgery.ir.protos import tensors_read


def in_order(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model itself if its nodes are in order, else a copy with its nodes in order, as near to the given as can be.

    Nodes that cannot be ordered, in a cycle or behind a tensor that nothing makes, come last.
    """
    nodes = list(model.graph.node)
    maker = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needed = [{maker[name] for name in tensors_read(node) if name in maker} for node in nodes]
    if all(max(before, default=-1) < index for index, before in enumerate(needed)):
        return model
    sequence = _sorted(needed)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes[index] for index in sequence)
    return copy


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
