"""This module sweeps backward in windows: from the scores of chosen candidates to windows of the layers' gradients."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from onnx_xcam.surgery.autodiff.backward import Sweep
from onnx_xcam.surgery.autodiff.composites import steps
from onnx_xcam.surgery.autodiff.local.frames import Frames
from onnx_xcam.surgery.autodiff.local.plan import Plan, spreads
from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.graph import Graph

_WINDOW = "NCHW"


@dataclass(frozen=True)
class Windows:
    """A Windows holds what one layer has in the windows of the chosen candidates, B = N K of them.

    Attributes:
        activations: the layer's activations, `[B, C, h', w']`.
        gradients: the gradients of the scores, `[1, B, C, h', w']`, zero outside the picture and for candidates of
            other levels.
        frames: where the windows lie.
        level: the number of the layer.
    """

    activations: Value
    gradients: Value
    frames: Frames
    level: int

    def placed(self, windows: Value) -> Value:
        """Emit `[B, ..., h', w']` on the whole grid of the layer, zeros around them, as `[N, K, ..., h, w]`."""
        return self.frames.placed(self.level, windows)


@dataclass(frozen=True)
class Chosen:
    """A Chosen holds the scores that are differentiated.

    Attributes:
        table: the tensor of the scores of all candidates, `[N, Q, C]`.
        candidates: the chosen ones, int64 `[N, K]`.
        weights: the weight of each class in the score of each, `[N, K, C]`.
    """

    table: str
    candidates: Value
    weights: Value


def windows_of(
    graph: Graph, emitter: Emitter, plan: Plan, chosen: Chosen, unclipped: Collection[str] = ()
) -> list[Windows]:
    """Emit the gradients of chosen scores with respect to the layers of a plan, in windows.

    Args:
        graph: the model.
        emitter: takes the added nodes.
        plan: how the scores are differentiated.
        chosen: the scores.
        unclipped: quantised tensors; the gradient passes also where they are at an end of their range.
    """
    frames = Frames(graph, emitter, plan, chosen.candidates)
    sweep = _WindowSweep(graph, emitter, plan, frames, unclipped)
    scores, weights = chosen.table, chosen.weights
    classes = shapes.dim_part(weights, 2)
    rows = weights.reshape([1, -1, 1, classes], (1, frames.count, 1, weights.shape[2]))
    if scores in plan.joins and plan.joins[scores].is_whole:
        sweep.divide(scores, rows)
    else:
        sweep.add(scores, rows)
    names = [source.name for source in plan.sources]
    for step in reversed(steps(graph, plan.path.nodes, {*names, scores, *_parts(plan)})):
        with Diagnosed(step.node):
            sweep.step(step.node)
    return [_windows(graph, emitter, sweep, frames, level) for level in range(len(names))]


def _parts(plan: Plan) -> list[str]:
    """Return the tensors that are joined, and what they are joined to."""
    return [name for join in plan.joins.values() for name in (join.name, *join.parts)]


def _windows(graph: Graph, emitter: Emitter, sweep: _WindowSweep, frames: Frames, level: int) -> Windows:
    """Return what one layer has in the windows."""
    source = frames.plan.sources[level]
    whole = forward_value(graph, emitter, source.name, "The layer")
    order = [source.layout.find(axis) for axis in _WINDOW]
    gradient = sweep.total(source.name)
    return Windows(
        frames.cut(source.name, whole).transpose(order),
        gradient.transpose([0, *(axis + 1 for axis in order)]),
        frames,
        level,
    )


class _WindowSweep(Sweep):
    """A _WindowSweep goes backward in windows: rules see windows of the forward tensors."""

    def __init__(self, graph: Graph, emitter: Emitter, plan: Plan, frames: Frames, unclipped: Collection[str]) -> None:
        super().__init__(graph, emitter, plan.path.tensors, unclipped, view=frames.cut)
        self.plan, self.frames = plan, frames
        self._inside: Value | None = None

    def add(self, name: str, gradient: Value) -> None:
        """Note a contribution to the gradient of a tensor; behind windows it is zero outside the picture."""
        super().add(name, gradient if self._inside is None else gradient * self._inside)

    def step(self, node: object) -> None:
        """Apply one node's rule, or go from the candidates of all levels to the windows of each."""
        name = str(node.outputs[0].name)  # type: ignore[attr-defined]
        join = self.plan.joins.get(name)
        if join is not None and not join.is_whole:
            self.divide(name, self.total(name))
            return
        form = self.plan.forms[name]
        if spreads(node) and form.level is not None:
            inside = self.frames.of_level[form.level].inside(np.dtype(np.float32))
            self._inside = None if inside is None else inside.unsqueeze([0, 2])
        super().step(node)
        self._inside = None

    def divide(self, name: str, gradient: Value) -> None:
        """Note the gradients of the levels that are joined to a tensor."""
        join = self.plan.joins[name]
        for part, tensor in enumerate(join.parts):
            if tensor in self.tensors:
                self.add(tensor, self.frames.beginning(join, part, gradient))
