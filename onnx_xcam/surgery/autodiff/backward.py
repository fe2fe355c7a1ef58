"""The one reverse sweep: from the gradient of the score to the gradients of the target layers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.common.operators import called
from onnx_xcam.errors import LayerError, UnexpectedError, UnsupportedOpError
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.analysis.reachability import between, forward
from onnx_xcam.surgery.autodiff.composites import steps
from onnx_xcam.surgery.autodiff.function_bodies import body_of
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.broadcasting import expanded, expanded_where_unsure, unbroadcast
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.ir.uses import captured
from onnx_xcam.surgery.rules import RULES, Vjp
from onnx_xcam.surgery.rules.node import NodeView


@dataclass(frozen=True)
class Way:
    """What lies between the target layers and the score.

    Attributes:
        graph: the graph.
        nodes: the nodes to differentiate, in topological order.
        tensors: the tensors whose gradients are needed.
    """

    graph: Graph
    nodes: tuple[gs.Node, ...]
    tensors: frozenset[str]

    def unsupported(self) -> list[gs.Node]:
        """The nodes on the way that have no rule for what is asked of them."""
        return [node for node in self.nodes if not has_rule(self.graph, node, self.tensors)]


def has_rule(graph: Graph, node: gs.Node, tensors: frozenset[str]) -> bool:
    """Whether the gradients of those inputs of the node that are among `tensors` can be computed.

    By a rule, or by the rules of the nodes in its function body.
    """
    if _rule(node) is not None:
        return tensors.isdisjoint(active_inputs(node)[traits(node).differentiable :])
    inside = _way_inside(graph, node, tensors)
    return inside is not None and not inside.unsupported()


def _way_inside(graph: Graph, node: gs.Node, tensors: Iterable[str]) -> Way | None:
    """The way through a node's function body, from its inputs to its outputs among `tensors`."""
    body = body_of(graph, node)
    if body is None:
        return None
    inputs = {t.name for t in node.inputs if t.name in tensors}
    return way(body, inputs, [out.name for out in node.outputs if out.name in tensors])


def active_inputs(node: gs.Node) -> list[str]:
    """The tensors whose values matter to the node's output; those that a control-flow body takes from outside too."""
    passive = traits(node).passive
    own = [tensor.name for i, tensor in enumerate(node.inputs) if i not in passive]
    return [*own, *captured(node)]


def carrying_outputs(node: gs.Node) -> list[str]:
    """The outputs whose dependence on the inputs counts."""
    detached = traits(node).detached
    return [out.name for i, out in enumerate(node.outputs) if out.name and i not in detached]


def way(graph: Graph, targets: Iterable[str], ends: Iterable[str]) -> Way:
    """The nodes and tensors on some path from a target to one of the ends (the score).

    Tensors are floats, and integers that stand for quantised floats. Operators with zero derivative end a path;
    operators without a rule do not.
    """

    def leaves(node: gs.Node, name: str) -> bool:
        return carries(node, name) and (graph.is_float(name) or name in graph.quantised)

    part = between(graph.uses, targets, ends, enters=is_active, leaves=leaves)
    return Way(graph, tuple(part.nodes), part.tensors)


def is_active(node: gs.Node, name: str) -> bool:
    """Whether the value of what a node reads under a name matters to the node's output, and not by steps alone."""
    facts = traits(node)
    return not facts.zero_derivative and (not facts.passive or name in active_inputs(node))


def carries(node: gs.Node, name: str) -> bool:
    """Whether the dependence of an output on the inputs counts."""
    return not traits(node).detached or name in carrying_outputs(node)


def image_tensors(graph: Graph, names: Iterable[str] | None = None) -> list[str]:
    """The float tensors whose values depend on one of these inputs, by default on any picture."""
    starts = pictures(graph) if names is None else names
    reached = forward(graph.uses, starts, enters=lambda node, _: not is_zero_derivative(node), leaves=carries)
    return [name for name in reached.tensors if graph.is_float(name)]


def is_zero_derivative(node: gs.Node) -> bool:
    """Whether nothing can flow back through the node."""
    return traits(node).zero_derivative


def is_rectifier(graph: Graph, node: gs.Node) -> bool:
    """Whether the node is a ReLU, or a Clip that starts at 0 as ReLU6 does."""
    if not is_standard(node.domain) or node.op not in ("Relu", "Clip"):
        return False
    if node.op == "Relu":
        return True
    low = node.attrs.get("min")
    if len(node.inputs) > 1 and node.inputs[1].name:
        low = graph.constants.get(node.inputs[1].name)
    return low is not None and not np.any(low)


def gradients(
    graph: Graph,
    emitter: Emitter,
    seeds: Mapping[str, Value],
    targets: Sequence[str],
    unclipped: Collection[str] = (),
    *,
    guided: bool = False,
) -> dict[str, Value]:
    """Emit the gradients of the score with respect to the targets.

    Args:
        graph: the model.
        emitter: takes the added nodes.
        seeds: for the score tensor the gradient to start from, `[K, *score.shape]` (or for several tensors).
        targets: names of tensors.
        unclipped: quantised tensors at whose ends of range the gradient passes as well.
        guided: let only what is positive of a gradient pass a ReLU: guided backpropagation (Springenberg et al.,
            "Striving for Simplicity", ICLR 2015 workshop, arXiv 1412.6806).

    Returns:
        For each target its gradient `[K, *target.shape]`, with size 1 along axes where it is constant.

    Raises:
        LayerError: the score does not depend on a target.
        UnsupportedOpError: there are nodes without a rule on the way; all of them are named.
    """
    path = way(graph, targets, seeds)
    for target in targets:
        if target not in path.tensors:
            scores = ", ".join(f"'{name}'" for name in seeds)
            raise LayerError(f"The score {scores} does not depend on the layer '{target}'; choose another layer.")
    missing = path.unsupported()
    if missing:
        raise UnsupportedOpError(describe_missing(missing) + ".")
    sweep = _Sweep(graph, emitter, path.tensors, unclipped, guided)
    for name, seed in seeds.items():
        sweep.add(name, seed)
    for step in reversed(steps(graph, path.nodes, {*targets, *seeds})):
        with Diagnosed(step.node):
            sweep.step(step.node)
    return {target: sweep.total(target) for target in targets}


class _Sweep:
    """Gradients found so far, by tensor."""

    def __init__(
        self,
        graph: Graph,
        emitter: Emitter,
        tensors: frozenset[str],
        unclipped: Collection[str] = (),
        guided: bool = False,
    ) -> None:
        self.guided = guided
        self.graph = graph
        self.emitter = emitter
        self.tensors = tensors
        self.unclipped = unclipped
        self.found: dict[str, list[Value]] = {}

    def add(self, name: str, gradient: Value) -> None:
        self.found.setdefault(name, []).append(gradient)

    def total(self, name: str) -> Value:
        """The sum over all uses of a tensor; later calls find it made."""
        first, *others = self.found[name]
        for other in others:
            first = first + other
        self.found[name] = [first]
        return first

    def step(self, node: gs.Node) -> None:
        """Apply one node's rule and add up what it gives."""
        rule, facts = _rule(node), traits(node)
        if rule is None:
            self._step_inside(node)
            return
        view = NodeView(self.graph, node, self.emitter, self.tensors, self.unclipped)
        outputs = [self.total(out.name) if out.name in self.found else None for out in node.outputs]
        if self.guided and is_rectifier(self.graph, node):
            outputs = [g if g is None else g.relu() for g in outputs]
        if not rule.constant_axes:
            outputs = [g if g is None else expanded(g, view.output(i)) for i, g in enumerate(outputs)]
        broadcast = rule.broadcast and len(node.inputs) > 1
        if broadcast and outputs[0] is not None:
            inputs = [view.input(i) for i in range(min(len(node.inputs), facts.differentiable)) if view.has_input(i)]
            outputs[0] = expanded_where_unsure(outputs[0], inputs, view.y)
        if not rule.every_output and any(g is not None for g in outputs[1:]):
            raise view.unsupported("a secondary output lies on the way to the score")
        result = rule.function(view, outputs if rule.every_output else outputs[0])
        results = [result] if result is None or isinstance(result, Value) else list(result)
        for index, tensor in enumerate(node.inputs):
            if not view.needs(index) or index in facts.passive:
                continue
            if index >= len(results) or results[index] is None:
                raise UnexpectedError(
                    f"The rule of {view.describe()} gave no gradient for input {index}; please report it."
                )
            gradient = results[index]
            assert gradient is not None
            if broadcast:
                gradient = unbroadcast(gradient, view.input(index), view.y)
            shape = self.graph.shape(tensor.name)
            if shape is not None and gradient.rank != len(shape) + 1:
                raise AssertionError(
                    f"the gradient for input {index} has rank {gradient.rank} instead of {len(shape) + 1}"
                )
            self.add(tensor.name, gradient)

    def _step_inside(self, node: gs.Node) -> None:
        """Go through the function body of a node without a rule."""
        inside = _way_inside(self.graph, node, self.tensors)
        assert inside is not None
        seeds = {out.name: self.total(out.name) for out in node.outputs if out.name in self.found}
        wanted = list(dict.fromkeys(t.name for t in node.inputs if t.name in self.tensors))
        targets = [name for name in wanted if name in inside.tensors]
        found = gradients(inside.graph, self.emitter, seeds, targets, guided=self.guided)
        seed = next(iter(seeds.values()))
        for name in wanted:
            zero = [shapes.dim_part(seed, 0), *[1] * len(self.graph.shape(name) or ())]
            self.add(name, found[name] if name in found else seed.zeros(zero))


def _rule(node: gs.Node) -> Vjp | None:
    return RULES.get(node.op) if is_standard(node.domain) else None


def describe_missing(missing: Sequence[gs.Node]) -> str:
    """Every operator without a rule and its nodes, in words."""
    by_op: dict[str, list[str]] = {}
    for node in missing:
        by_op.setdefault(called(node.domain, node.op), []).append(f"'{node.name or node.outputs[0].name}'")
    listed = "; ".join(f"{op}: {', '.join(names)}" for op, names in by_op.items())
    return f"No gradient rule for operators between the layer and the score: {listed}"
