"""This module finds what lies on a differentiable path: where a small change of one tensor changes another one.

Operators with zero derivative end a path, as do inputs of which only the shape or type is used, and inputs and outputs
that are treated as constants. Whether a gradient rule exists does not matter here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.analysis.reachability import between, forward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.uses import captured


@dataclass(frozen=True)
class DifferentiablePath:
    """A DifferentiablePath holds what lies between some tensors, such as target layers, and others, as the score.

    Attributes:
        graph: the graph.
        nodes: the nodes to differentiate, in topological order.
        tensors: the tensors with gradients that are needed.
    """

    graph: Graph
    nodes: tuple[gs.Node, ...]
    tensors: frozenset[str]


def differentiable_path(
    graph: Graph, starts: Iterable[str], ends: Iterable[str], stops: Collection[str] = ()
) -> DifferentiablePath:
    """Return the nodes and tensors on any differentiable path from one of `starts` to one of `ends`.

    The tensors are floats, and integers that stand for quantised floats. No path leads through a node that makes one of
    `stops`, so that one of these is on a path only as its first tensor.
    """

    def leaves(node: gs.Node, name: str) -> bool:
        return name not in stops and _carries(node, name) and (graph.is_float(name) or name in graph.quantised)

    part = between(graph.uses, starts, ends, enters=_is_active, leaves=leaves)
    return DifferentiablePath(graph, tuple(part.nodes), part.tensors)


def image_tensors(graph: Graph, names: Iterable[str] | None = None) -> list[str]:
    """Return the float tensors with values that depend on one of these inputs, by default on any picture.

    A dependence through steps alone does not count. Unlike on a differentiable path, the tensors between may be of any
    type, and may lend only their shape.
    """
    starts = pictures(graph) if names is None else names
    reached = forward(graph.uses, starts, enters=lambda node, _: not traits(node).zero_derivative, leaves=_carries)
    return [name for name in reached.tensors if graph.is_float(name)]


def active_inputs(node: gs.Node) -> list[str]:
    """Return the tensors that a node is differentiated by, with those that a control-flow body captures.

    Inputs of which only the type or shape matters, and those that are held constant, are none of them.
    """
    others = traits(node).without_derivative
    own = [tensor.name for i, tensor in enumerate(node.inputs) if i not in others]
    return [*own, *captured(node)]


def _is_active(node: gs.Node, name: str) -> bool:
    """Tell whether a node is differentiated by an input of this name: its values do not change in steps alone."""
    facts = traits(node)
    return not facts.zero_derivative and (not facts.without_derivative or name in active_inputs(node))


def _carries(node: gs.Node, name: str) -> bool:
    """Tell whether an output counts as depending on the node's inputs."""
    detached = traits(node).detached
    return not detached or any(out.name == name and i not in detached for i, out in enumerate(node.outputs))
