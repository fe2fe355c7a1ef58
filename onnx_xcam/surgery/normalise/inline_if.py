"""This module replaces If nodes with a known condition by the branch that is taken.

Exporters leave such nodes where a program asked for a shape (`squeeze`: is the dimension 1?); with static shapes the
answer is a constant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import onnx

from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import is_standard, subgraphs


def decided(graph: Graph) -> dict[str, bool]:
    """Return the condition of each If node that has a known one, by the node's first output."""
    conditions = {}
    for node in graph.nodes:
        if node.op == "If" and is_standard(node.domain) and len(node.inputs) == 1:
            condition = graph.constants.get(node.inputs[0].name)
            if condition is not None and condition.size == 1:
                conditions[str(node.outputs[0].name)] = bool(condition.reshape(-1)[0])
    return conditions


def inline_branches(graph: onnx.GraphProto, conditions: Mapping[str, bool]) -> None:
    """Replace If nodes by the branch that is taken, in place; inner names change only where they are used elsewhere."""
    ifs = ((i, node.output[0]) for i, node in enumerate(graph.node) if node.op_type == "If")
    chosen = {i: conditions[name] for i, name in ifs if name in conditions}
    taken = set(_defined(graph, skip=chosen))
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        if index not in chosen:
            nodes.append(node)
            continue
        wanted = "then_branch" if chosen[index] else "else_branch"
        branch = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        nodes += _inlined(graph, node, branch, taken)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)


def _inlined(
    graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto, taken: set[str]
) -> list[onnx.NodeProto]:
    """Return a branch's nodes, renamed to fit into the graph, which gets the branch's initializers and types."""
    made = {name for inner in branch.node for name in inner.output if name}
    names: dict[str, str] = {}
    copies = []
    for inside, outside in zip(branch.output, node.output, strict=False):
        if outside and inside.name in made and inside.name not in names:
            names[inside.name] = outside
        elif outside:  # the branch returns a tensor from outside, or the same one twice
            copies.append((inside.name, outside))
    prefix = node.name or node.output[0]
    for name in (*made, *(tensor.name for tensor in _stored(branch))):
        if name not in names:
            names[name] = _fresh(name, prefix, taken)
    nodes = []
    for inner in branch.node:
        inner_copy = onnx.NodeProto()
        inner_copy.CopyFrom(inner)
        rename(inner_copy, names)
        inner_copy.name = _fresh(inner.name, prefix, taken) if inner.name else ""
        nodes.append(inner_copy)
    nodes += [onnx.helper.make_node("Identity", [names.get(a, a)], [b], name=f"{prefix}/{b}") for a, b in copies]
    _take_over(graph, node, branch, names)
    return nodes


def _take_over(graph: onnx.GraphProto, node: onnx.NodeProto, branch: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Move a branch's initializers and its type information into the graph."""
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = names[tensor.name]
    for sparse in branch.sparse_initializer:
        graph.sparse_initializer.add().CopyFrom(sparse)
        graph.sparse_initializer[-1].values.name = names[sparse.values.name]
    stale = [info for info in graph.value_info if info.name in node.output]  # may fit the other branch only
    for info in stale:
        graph.value_info.remove(info)
    for info in branch.value_info:
        if info.name in names:
            graph.value_info.add().CopyFrom(info)
            graph.value_info[-1].name = names[info.name]


def _stored(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield the tensors that a graph stores as initializers; for a sparse one, the tensor of its values."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values


def _fresh(name: str, prefix: str, taken: set[str]) -> str:
    """Return the name, or a similar one if it is taken, and mark it as taken."""
    fresh, serial = name, 0
    while fresh in taken:
        fresh = f"{prefix}/{name}" + (f"_{serial}" if serial else "")
        serial += 1
    taken.add(fresh)
    return fresh


def _defined(graph: onnx.GraphProto, skip: Iterable[int] = ()) -> Iterator[str]:
    """Yield all names of tensors and nodes in a graph and below, but not below the nodes at the positions `skip`."""
    yield from (info.name for info in graph.input)
    yield from (tensor.name for tensor in _stored(graph))
    for index, node in enumerate(graph.node):
        yield from node.output
        yield node.name
        if index not in skip:
            for inner in subgraphs(node):
                yield from _defined(inner)


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename what a node reads and makes; a name that a subgraph defines anew stands for another tensor there."""
    for tensors in (node.input, node.output):
        for index, name in enumerate(tensors):
            tensors[index] = names.get(name, name)
    for graph in subgraphs(node):
        local = {info.name for info in graph.input} | {tensor.name for tensor in _stored(graph)}
        local.update(name for inner in graph.node for name in inner.output)
        outer = {name: new for name, new in names.items() if name not in local}
        for inner in graph.node:
            rename(inner, outer)
        for info in graph.output:
            info.name = outer.get(info.name, info.name)
