"""Nodes that are differentiated otherwise than they stand in the model, which is left as it is.

Functions that exporters spell out in several nodes are taken as the one function that they are:

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2
    swish(x) = x sigmoid(alpha x)

At opsets that lack them they are written as two to five nodes, which ONNX Runtime fuses into one. A gradient taken node
by node would keep values from between them and so undo the fusion: slower, and the model's own outputs change in their
last digits. Taken as a whole it needs x and y alone.

A dense block joins its features anew for each layer: concat(a, b), concat(a, b, c), ... The longer one is taken for
concat(concat(a, b), c), so that its gradient goes to the shorter one in one piece and not to every feature by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isclose, sqrt

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.ir.graph import Graph

_HALF_PRECISION = 1e-3
"""How far a constant may be off, relatively: 1 / sqrt 2 in float16."""


@dataclass(frozen=True)
class Step:
    """One thing to differentiate.

    Attributes:
        node: what a rule sees: a node of the model, or one that stands for several.
        parts: the nodes of the model, in topological order.
    """

    node: gs.Node
    parts: tuple[gs.Node, ...]


def steps(graph: Graph, nodes: Sequence[gs.Node], visible: Collection[str]) -> list[Step]:
    """The nodes one by one, those that spell out a function taken together.

    Args:
        graph: the model.
        nodes: the nodes to differentiate, in topological order.
        visible: tensors whose gradients are asked for or given: no function is taken across them.
    """
    given, functions = {id(node) for node in nodes}, _Functions(graph, visible)
    found: dict[int, Step] = _joined_in_turn(graph, nodes, visible)
    inside: set[int] = set()
    for node in nodes:
        whole = functions.around(node)
        if whole is not None and given.issuperset(id(part) for part in whole.parts):
            inside.update(id(part) for part in whole.parts)
            found[id(whole.parts[-1])] = whole
    return [found.get(id(node)) or Step(node, (node,)) for node in nodes if id(node) not in inside or id(node) in found]


def _joined_in_turn(graph: Graph, nodes: Sequence[gs.Node], visible: Collection[str]) -> dict[int, Step]:
    """Each Concat whose first inputs are joined by an earlier one, as a Concat of that one's output and the others."""
    found: dict[int, Step] = {}
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
                found[id(node)] = Step(other, (other,))
                break
        if node.outputs[0].name not in visible:
            earlier[axis, tuple(names)] = node.outputs[0]
    return found


def _alike(tensor: gs.Tensor) -> gs.Tensor:
    """A tensor of its own with the same name: else a new node would be entered among the model's."""
    return gs.Variable(tensor.name, tensor.dtype, tensor.shape)


class _Functions:
    def __init__(self, graph: Graph, visible: Collection[str]) -> None:
        self.graph = graph
        self.hidden = {*graph.output_names, *visible}

    def around(self, node: gs.Node) -> Step | None:
        """The function that an Erf or a Sigmoid belongs to."""
        return self._gelu(node) if node.op == "Erf" else self._swish(node) if node.op == "Sigmoid" else None

    def _swish(self, sigmoid: gs.Node) -> Step | None:
        """x sigmoid(alpha x)."""
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

    def _step(self, op: str, x: gs.Tensor, parts: list[gs.Node], **attributes: float) -> Step:
        last = parts[-1]
        node = gs.Node(op, last.name, attributes, [_alike(x)], [_alike(last.outputs[0])])
        return Step(node, tuple(parts))

    def _gelu(self, erf: gs.Node) -> Step | None:
        """x (1 + erf(x / sqrt 2)) / 2."""
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
        """x of x / sqrt 2."""
        for x, factor in self._factors(node):
            wanted = sqrt(2) if node.op == "Div" else sqrt(0.5)
            if isclose(factor, wanted, rel_tol=_HALF_PRECISION):
                return x
        return None

    def _end(self, x: gs.Tensor, plus: gs.Node) -> list[gs.Node] | None:
        """The two Muls by x and by 1/2, in any order."""
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
        factor = self._times(node, "Mul", name)
        return factor is not None and isclose(factor, 0.5, rel_tol=_HALF_PRECISION)

    def _times(self, node: gs.Node, op: str, name: str) -> float | None:
        """The number that a tensor is multiplied with (or, for Add, that is added)."""
        if node.op != op:
            return None
        return next((factor for x, factor in self._factors(node) if x.name == name), None)

    def _factors(self, node: gs.Node) -> list[tuple[gs.Tensor, float]]:
        """Each operand whose other one is a constant number, with that number."""
        if node.op not in ("Mul", "Div", "Add") or len(node.inputs) != 2:
            return []
        a, b = node.inputs
        pairs = [(a, b)] if node.op == "Div" else [(a, b), (b, a)]
        constants = self.graph.constants
        known = [(x, constants[other.name]) for x, other in pairs if other.name in constants]
        return [(x, float(value.reshape(-1)[0])) for x, value in known if value.size == 1]

    def _next(self, node: gs.Node) -> gs.Node | None:
        """The only node that reads a node's output, None if others need it."""
        (out, *_) = node.outputs
        readers = self.graph.readers.get(out.name, [])
        return readers[0] if len(readers) == 1 and out.name not in self.hidden else None


def _names(node: gs.Node) -> list[str]:
    return [tensor.name for tensor in node.inputs]
