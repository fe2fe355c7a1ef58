"""This module finds groups of nodes that are differentiated as one function; the model itself is left as it is.

Exporters write some functions as several nodes, which are differentiated together:

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2
    swish(x) = x sigmoid(alpha x)

At opsets that lack these operators, they are written as two to five nodes, which ONNX Runtime fuses into one. A
gradient node by node would read tensors between these nodes and so prevent the fusion: the model would be slower, and
its own outputs would change in their last digits. The gradient of the whole function reads x and y only.

A dense block (DenseNet) joins its features anew for each layer: concat(a, b), concat(a, b, c), ... The longer Concat is
differentiated as concat(concat(a, b), c), so that its gradient goes to the shorter one in one piece, and not to every
feature separately.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isclose, sqrt

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.graph import Graph

_HALF_PRECISION = 1e-3
"""The relative tolerance for constants of a function, which may be rounded to float16, such as 1 / sqrt 2."""


@dataclass(frozen=True)
class DifferentiationStep:
    """A DifferentiationStep is one node, or a group of nodes, that one gradient rule differentiates.

    Attributes:
        node: the node that the rule sees: a node of the model, or one that replaces a group.
        parts: the nodes that are differentiated by it, in topological order.
    """

    node: gs.Node
    parts: tuple[gs.Node, ...]


def steps(graph: Graph, nodes: Sequence[gs.Node], visible: Collection[str]) -> list[DifferentiationStep]:
    """Return the steps in which nodes are differentiated: one by one, but a function of several nodes as one step.

    Args:
        graph: the model.
        nodes: the nodes to differentiate, in topological order.
        visible: tensors with gradients that are asked for or given, which must not lie inside a function.
    """
    given, functions = {id(node) for node in nodes}, _Functions(graph, visible)
    replaced: dict[int, DifferentiationStep] = _joined_in_turn(graph, nodes, visible)
    inside: set[int] = set()
    for node in nodes:
        whole = functions.around(node)
        if whole is not None and given.issuperset(id(part) for part in whole.parts):
            inside.update(id(part) for part in whole.parts)
            replaced[id(whole.parts[-1])] = whole
    kept = [node for node in nodes if id(node) not in inside or id(node) in replaced]
    return [replaced.get(id(node)) or DifferentiationStep(node, (node,)) for node in kept]


def _joined_in_turn(graph: Graph, nodes: Sequence[gs.Node], visible: Collection[str]) -> dict[int, DifferentiationStep]:
    """Return steps, by id of the node, for Concats that begin with all inputs of an earlier Concat.

    Such a step joins the output of the earlier Concat and the remaining inputs.
    """
    joined: dict[int, DifferentiationStep] = {}
    earlier: dict[tuple[int, tuple[str, ...]], gs.Tensor] = {}
    for node in nodes:
        rank = len(graph.shape(node.outputs[0].name) or ()) if node.op == "Concat" else 0
        if not rank:
            continue
        axis, names = int(node.attrs.get("axis", 1)) % rank, _names(node)
        for count in range(len(names) - 1, 1, -1):
            whole = earlier.get((axis, tuple(names[:count])))
            if whole is not None:
                inputs = [_alike(tensor) for tensor in (whole, *node.inputs[count:])]
                other = gs.Node("Concat", node.name, dict(node.attrs), inputs, [_alike(node.outputs[0])])
                joined[id(node)] = DifferentiationStep(other, (other,))
                break
        if node.outputs[0].name not in visible:
            earlier[axis, tuple(names)] = node.outputs[0]
    return joined


def _alike(tensor: gs.Tensor) -> gs.Tensor:
    """Return another tensor object of the same name, so that a node that reads it is not entered in the model."""
    return gs.Variable(tensor.name, tensor.dtype, tensor.shape)


class _Functions:
    """A _Functions object recognises functions of several nodes; no `visible` tensor may lie inside one."""

    def __init__(self, graph: Graph, visible: Collection[str]) -> None:
        self.graph = graph
        self.hidden = {*graph.output_names, *visible}

    def around(self, node: gs.Node) -> DifferentiationStep | None:
        """Return the function that an Erf or a Sigmoid is part of, None if it is part of none."""
        return self._gelu(node) if node.op == "Erf" else self._swish(node) if node.op == "Sigmoid" else None

    def _swish(self, sigmoid: gs.Node) -> DifferentiationStep | None:
        """Return x sigmoid(alpha x) as one step, None if the nodes around a Sigmoid compute something else."""
        product, scale = self._next(sigmoid), self.graph.producer.get(sigmoid.inputs[0].name)
        if product is None or product.op != "Mul":
            return None
        forms: list[tuple[gs.Tensor, float, list[gs.Node]]] = [(sigmoid.inputs[0], 1.0, [])]
        if scale is not None and scale.op == "Mul" and self._next(scale) is sigmoid:
            forms += [(x, factor, [scale]) for x, factor in self._factors(scale)]
        for x, alpha, before in forms:
            if sorted(_names(product)) == sorted([x.name, sigmoid.outputs[0].name]):
                return self._step("Swish", x, [*before, sigmoid, product], alpha=alpha)
        return None

    def _step(self, op: str, x: gs.Tensor, parts: list[gs.Node], **attributes: float) -> DifferentiationStep:
        """Return the step that differentiates these nodes as one operator of x."""
        last = parts[-1]
        node = gs.Node(op, last.name, attributes, [_alike(x)], [_alike(last.outputs[0])])
        return DifferentiationStep(node, tuple(parts))

    def _gelu(self, erf: gs.Node) -> DifferentiationStep | None:
        """Return x (1 + erf(x / sqrt 2)) / 2 as one step, None if the nodes around an Erf compute something else."""
        scale = self.graph.producer.get(erf.inputs[0].name)
        x = None if scale is None or self._next(scale) is not erf else self._scaled(scale)
        plus = self._next(erf)
        if x is None or scale is None or plus is None or self._times(plus, "Add", erf.outputs[0].name) != 1:
            return None
        end = self._end(x, plus)
        if end is None:
            return None
        parts = sorted([scale, erf, plus, *end], key=lambda node: self.graph.order[node.outputs[0].name])
        return self._step("Gelu", x, parts)

    def _scaled(self, node: gs.Node) -> gs.Tensor | None:
        """Return x if a node computes x / sqrt 2, else None."""
        for x, factor in self._factors(node):
            wanted = sqrt(2) if node.op == "Div" else sqrt(0.5)
            if isclose(factor, wanted, rel_tol=_HALF_PRECISION):
                return x
        return None

    def _end(self, x: gs.Tensor, plus: gs.Node) -> list[gs.Node] | None:
        """Return the two nodes behind 1 + erf that multiply by x and by 1/2, in any order, else None."""
        first = self._next(plus)
        if first is None or first.op != "Mul":
            return None
        if x.name in _names(first):
            second = self._next(first)
            return [first, second] if second is not None and self._halves(second, first.outputs[0].name) else None
        if self._halves(first, plus.outputs[0].name):
            second = self._next(first)
            return [first, second] if second is not None and second.op == "Mul" and x.name in _names(second) else None
        other = next(name for name in _names(first) if name != plus.outputs[0].name)
        half = self.graph.producer.get(other)
        if half is None or self._next(half) is not first or not self._halves(half, x.name):
            return None
        return [half, first]

    def _halves(self, node: gs.Node, name: str) -> bool:
        """Tell whether a node multiplies this tensor by 1/2."""
        factor = self._times(node, "Mul", name)
        return factor is not None and isclose(factor, 0.5, rel_tol=_HALF_PRECISION)

    def _times(self, node: gs.Node, op: str, name: str) -> float | None:
        """Return the constant number that a node of this operator combines with a tensor, None if it does not."""
        if node.op != op:
            return None
        return next((factor for x, factor in self._factors(node) if x.name == name), None)

    def _factors(self, node: gs.Node) -> list[tuple[gs.Tensor, float]]:
        """Return the operands of a node that it combines with a constant number, each with that number."""
        if node.op not in ("Mul", "Div", "Add") or len(node.inputs) != 2:
            return []
        a, b = node.inputs
        pairs = [(a, b)] if node.op == "Div" else [(a, b), (b, a)]
        constants = self.graph.constants
        known = [(x, constants[other.name]) for x, other in pairs if other.name in constants]
        return [(x, float(value.reshape(-1)[0])) for x, value in known if value.size == 1]

    def _next(self, node: gs.Node) -> gs.Node | None:
        """Return the only node that reads a node's output, None if others read it or it is visible."""
        (out, *_) = node.outputs
        readers = self.graph.readers.get(out.name, [])
        return readers[0] if len(readers) == 1 and out.name not in self.hidden else None


def _names(node: gs.Node) -> list[str]:
    """Return the names of a node's inputs."""
    return [tensor.name for tensor in node.inputs]
