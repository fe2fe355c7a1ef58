"""Functions that exporters spell out in several nodes, differentiated as the one function that they are.

    gelu(x) = x (1 + erf(x / sqrt 2)) / 2

At opsets that lack Gelu it is written as five nodes, which ONNX Runtime fuses into one. A gradient taken node by node
would keep values from between them and so undo the fusion: slower, and the model's own outputs change in their last
digits. Taken as a whole it needs x alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isclose, sqrt

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.graphs.graph import Graph

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
    given, gelu = {id(node) for node in nodes}, _Gelu(graph, visible)
    found: dict[int, Step] = {}
    inside: set[int] = set()
    for node in nodes:
        whole = gelu.around(node) if node.op == "Erf" else None
        if whole is not None and given.issuperset(id(part) for part in whole.parts):
            inside.update(id(part) for part in whole.parts)
            found[id(whole.parts[-1])] = whole
    return [found.get(id(node)) or Step(node, (node,)) for node in nodes if id(node) not in inside or id(node) in found]


class _Gelu:
    def __init__(self, graph: Graph, visible: Collection[str]) -> None:
        self.graph = graph
        self.hidden = {*graph.output_names, *visible}

    def around(self, erf: gs.Node) -> Step | None:
        """The Gelu that an Erf belongs to."""
        scale = self.graph.producer.get(erf.inputs[0].name)
        x = None if scale is None or self._next(scale) is not erf else self._scaled(scale)
        plus = self._next(erf)
        if x is None or scale is None or plus is None or self._times(plus, "Add", erf.outputs[0].name) != 1:
            return None
        end = self._end(x, plus)
        if end is None:
            return None
        parts = sorted([scale, erf, plus, *end], key=lambda node: self.graph.order[node.outputs[0].name])
        last = parts[-1]
        # Tensors of its own, of the same names: else the new node would be entered among the model's.
        ends = [gs.Variable(tensor.name, tensor.dtype, tensor.shape) for tensor in (x, last.outputs[0])]
        return Step(gs.Node("Gelu", name=last.name, attrs={}, inputs=ends[:1], outputs=ends[1:]), tuple(parts))

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
