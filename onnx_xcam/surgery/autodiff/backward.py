"""This module sweeps backward once: from the gradient of the score to the gradients of the target layers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.common.operators import called
from onnx_xcam.errors import LayerError, UnexpectedError, UnsupportedOpError
from onnx_xcam.surgery.analysis.differentiable_path import DifferentiablePath, active_inputs, differentiable_path
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
from onnx_xcam.surgery.rules import RULES, Vjp
from onnx_xcam.surgery.rules.node import NodeView, whole


def unsupported(path: DifferentiablePath) -> list[gs.Node]:
    """Return the nodes on a path that have no gradient rule for the inputs that lie on the path."""
    return [node for node in path.nodes if not has_rule(path.graph, node, path.tensors)]


def has_rule(graph: Graph, node: gs.Node, tensors: frozenset[str]) -> bool:
    """Tell whether the gradients of those inputs of the node that are among `tensors` can be computed.

    They can by a rule of the operator, or by rules of all nodes in its function body.
    """
    if _rule(node) is not None:
        return tensors.isdisjoint(active_inputs(node)[traits(node).differentiable :])
    inside = _path_inside(graph, node, tensors)
    return inside is not None and not unsupported(inside)


def _path_inside(graph: Graph, node: gs.Node, tensors: Iterable[str]) -> DifferentiablePath | None:
    """Return the path in a node's function body from inputs to outputs among `tensors`, None if it has no body."""
    body = body_of(graph, node)
    if body is None:
        return None
    inputs = {t.name for t in node.inputs if t.name in tensors}
    return differentiable_path(body, inputs, [out.name for out in node.outputs if out.name in tensors])


def is_rectifier(graph: Graph, node: gs.Node) -> bool:
    """Tell whether the node is a ReLU, or a Clip with the lower bound 0, as ReLU6 is."""
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
    stops: Collection[str] = (),
) -> dict[str, Value]:
    """Emit the gradients of the score with respect to the targets.

    Args:
        graph: the model.
        emitter: takes the added nodes.
        seeds: the gradients to start from, `[K, *score.shape]`, by name of the score tensor (or of several tensors).
        targets: the names of the tensors to differentiate with respect to.
        unclipped: quantised tensors; the gradient passes also where they are at an end of their range.
        guided: whether only the positive part of a gradient passes a ReLU, as in guided backpropagation (Springenberg
            et al., "Striving for Simplicity", ICLR 2015 workshop, arXiv 1412.6806).
        stops: tensors through which no gradient passes on to tensors before them.

    Returns:
        For each target its gradient `[K, *target.shape]`, with size 1 along axes where it is constant.

    Raises:
        LayerError: the score does not depend on a target.
        UnsupportedOpError: nodes between a target and the score have no rule; the message names all of them.
    """
    path = differentiable_path(graph, targets, seeds, stops)
    for target in targets:
        if target not in path.tensors:
            scores = ", ".join(f"'{name}'" for name in seeds)
            raise LayerError(f"The score {scores} does not depend on the layer '{target}'; choose another layer.")
    missing = unsupported(path)
    if missing:
        raise UnsupportedOpError(describe_missing(missing) + ".")
    sweep = Sweep(graph, emitter, path.tensors, unclipped, guided=guided)
    for name, seed in seeds.items():
        sweep.add(name, seed)
    for step in reversed(steps(graph, path.nodes, {*targets, *seeds})):
        with Diagnosed(step.node):
            sweep.step(step.node)
    return {target: sweep.total(target) for target in targets}


class Sweep:
    """A Sweep collects the contributions to each tensor's gradient, while it goes backward node by node.

    Args:
        graph: the model.
        emitter: takes the added nodes.
        tensors: the tensors with gradients that are needed.
        unclipped: quantised tensors; the gradient passes also where they are at an end of their range.
        guided: whether only the positive part of a gradient passes a ReLU.
        view: returns what rules see of a forward tensor, given its name and the whole.
    """

    def __init__(
        self,
        graph: Graph,
        emitter: Emitter,
        tensors: frozenset[str],
        unclipped: Collection[str] = (),
        *,
        guided: bool = False,
        view: Callable[[str, Value], Value] = whole,
    ) -> None:
        self.guided = guided
        self.view = view
        self.graph = graph
        self.emitter = emitter
        self.tensors = tensors
        self.unclipped = unclipped
        self.contributions: dict[str, list[Value]] = {}

    def add(self, name: str, gradient: Value) -> None:
        """Note a contribution to the gradient of a tensor."""
        self.contributions.setdefault(name, []).append(gradient)

    def total(self, name: str) -> Value:
        """Return the gradient of a tensor, which is the sum of its contributions; later calls return the same sum."""
        first, *others = self.contributions[name]
        for other in others:
            first = first + other
        self.contributions[name] = [first]
        return first

    def step(self, node: gs.Node) -> None:
        """Apply one node's rule, and note the gradients of its inputs."""
        rule, facts = _rule(node), traits(node)
        if rule is None:
            self._step_inside(node)
            return
        view = NodeView(self.graph, node, self.emitter, self.tensors, self.unclipped, view=self.view)
        outputs = [self.total(out.name) if out.name in self.contributions else None for out in node.outputs]
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
            if not view.needs(index) or index in facts.without_derivative:
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
        """Differentiate a node without a rule through its function body, and note the gradients of its inputs."""
        inside = _path_inside(self.graph, node, self.tensors)
        assert inside is not None
        seeds = {out.name: self.total(out.name) for out in node.outputs if out.name in self.contributions}
        wanted = list(dict.fromkeys(t.name for t in node.inputs if t.name in self.tensors))
        targets = [name for name in wanted if name in inside.tensors]
        inner = gradients(inside.graph, self.emitter, seeds, targets, guided=self.guided)
        seed = next(iter(seeds.values()))
        for name in wanted:
            zero = [shapes.dim_part(seed, 0), *[1] * len(self.graph.shape(name) or ())]
            self.add(name, inner[name] if name in inner else seed.zeros(zero))


def _rule(node: gs.Node) -> Vjp | None:
    """Return the gradient rule of a node's operator, None where there is none."""
    return RULES.get(node.op) if is_standard(node.domain) else None


def describe_missing(missing: Sequence[gs.Node]) -> str:
    """Return a sentence, without its full stop, that names every operator without a rule and its nodes."""
    by_op: dict[str, list[str]] = {}
    for node in missing:
        by_op.setdefault(called(node.domain, node.op), []).append(f"'{node.name or node.outputs[0].name}'")
    listed = "; ".join(f"{op}: {', '.join(names)}" for op, names in by_op.items())
    return f"No gradient rule for operators between the layer and the score: {listed}"
