"""This module splits a score into the contributions of a layer, of the biases behind it, and of tensors that bypass it.

Going back from S through piecewise affine nodes y = J x + c, <dS/dy, y> = <dS/dx, x> + <dS/dy, c> at every node, so

    S = sum(G A) + sum over the nodes of <dS/dy, c>

exactly where all nodes between layer and score are piecewise affine: this is equation 5 of Fu et al. 2020 (arXiv
2008.02312), written there for the layers of a ReLU network, in which the constants are biases. The remainder of S is
what curved nodes add (Sigmoid, Softmax, a product of two tensors that both depend on the layer).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.analysis.reachability import forward
from onnx_xcam.surgery.autodiff.backward import gradients
from onnx_xcam.surgery.autodiff.composites import steps
from onnx_xcam.surgery.autodiff.vjp_model import new_emitter, tensor_info
from onnx_xcam.surgery.builder.broadcasting import expanded
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import INT_MAX, Value
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import IR_VERSION, is_standard
from onnx_xcam.surgery.rules.node import NodeView
from onnx_xcam.surgery.submodels.affine_terms import AFFINE_TERMS, Operand, is_affine
from onnx_xcam.surgery.submodels.masked import MaskedPart
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.target import Choosing, Target

PARTS = ("layer", "bias", "side", "magnitude")
"""The model has these outputs beside the scores: `xcam_layer` and so on, float64 `[K]`, summed over all images.

- layer: sum(G A) over the positions of the map.
- bias: the affine terms made of weights and of the nodes' own numbers.
- side: the affine terms made of tensors that bypass the layer, and sum(G A) of tokens that the map does not show.
- magnitude: the sum of the magnitudes of all summands.
"""


def output_of(part: str) -> str:
    """Return the name of the output that gives a part."""
    return f"xcam_{part}"


@dataclass(frozen=True)
class DecompositionModel:
    """A DecompositionModel is the part behind a layer with the decomposition of its scores as outputs.

    Attributes:
        model: the model, with the part's inputs and `xcam_class`, and the outputs `xcam_scores` and those of `PARTS`.
        curved: the nodes that are not piecewise affine, or have no known affine term.
    """

    model: onnx.ModelProto
    curved: tuple[str, ...]


def decomposition_model(masked: MaskedPart, layer: Layer, target: Target) -> DecompositionModel:
    """Return the part behind a layer with the decomposition of its scores as outputs.

    Raises:
        UnsupportedOpError: an operator between layer and score has no gradient rule, or the model is quantised, and its
            rounding is neither a constant nor a part of any layer.
    """
    graph = prepare(onnx.ModelProto.FromString(masked.skeleton), "the part behind the layer")
    if graph.quantised:
        raise UnsupportedOpError(
            "The score of a quantised model is not split into what the layer and the biases make of it: each rounding "
            "adds its own. Use the float model."
        )
    emitter = new_emitter(graph)
    selection = target.select(graph, emitter, Choosing(class_input="required"))
    parts, curved = emit_decomposition(graph, emitter, layer, target, selection.seed)
    outputs = [emitter.named(selection.scores, "xcam_scores")]
    outputs += [emitter.named(value, output_of(name)) for name, value in parts.items()]
    tail = export(emitter, [value.name for value in outputs], IR_VERSION)
    model = onnx.ModelProto()
    model.CopyFrom(masked.model)
    del model.graph.output[:]
    model.graph.node.extend(tail.node)
    model.graph.initializer.extend(tail.initializer)
    model.graph.input.extend(tensor_info(choice.value) for choice in selection.inputs)
    model.graph.output.extend(tensor_info(value) for value in outputs)
    return DecompositionModel(model, curved)


def emit_decomposition(
    graph: Graph, emitter: Emitter, layer: Layer, target: Target, seed: Value
) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Emit the decomposition of the scores of some classes behind a layer: `PARTS` by name, and the curved nodes.

    Args:
        graph: the model, or the part behind the layer.
        emitter: takes the added nodes.
        layer: the layer.
        target: the scores.
        seed: gradient of each class's score with respect to the score tensor, `[K, *target.shape]`.
    """
    sums = Sums(seed)
    gradient, curved = emit_affine_terms(
        graph, emitter, {target.name: seed}, layer.name, sums=sums, unclipped=target.unclipped
    )
    a = forward_value(graph, emitter, layer.name, "The layer")
    g = expanded(gradient, a)
    axis = layer.layout.find("T")
    for part_name, start, stop in _token_ranges(layer):
        cut = [v if axis < 0 else v.slice([start], [stop], [at]) for v, at in ((g, axis + 1), (a, axis))]
        sums.add(part_name, *cut)
    return sums.totals, curved


def emit_affine_terms(
    graph: Graph,
    emitter: Emitter,
    seeds: Mapping[str, Value],
    target: str,
    *,
    sums: Sums,
    unclipped: Collection[str] = (),
) -> tuple[Value, tuple[str, ...]]:
    """Emit the affine terms of the nodes behind a tensor; return its gradient and the names of curved nodes.

    Args:
        graph, emitter, seeds, unclipped: as for `gradients`.
        target: the tensor.
        sums: the parts that the terms are added to, as "bias" and "side".
    """
    path = differentiable_path(graph, [target], seeds)
    whole = [step for step in steps(graph, path.nodes, {target, *seeds}) if len(step.parts) > 1]
    inside = {id(part) for step in whole for part in step.parts}
    single = [node for node in path.nodes if id(node) not in inside]
    curved = [step.node for step in whole] + [node for node in single if not is_affine(node, path.tensors)]
    parts: list[tuple[str, Operand]] = []
    for node in single:
        if is_standard(node.domain) and node.op in AFFINE_TERMS:
            view = NodeView(graph, node, emitter, path.tensors, unclipped)
            parts += [(str(node.outputs[0].name), part) for part in AFFINE_TERMS[node.op](view)]
    targets = list(dict.fromkeys([target, *(name for name, _ in parts)]))
    computed = gradients(graph, emitter, seeds, targets, unclipped)
    pictured = _pictured(graph)
    for name, part in parts:
        y = forward_value(graph, emitter, name, "The affine term")
        sums.add("side" if part.source in pictured else "bias", expanded(computed[name], y), part.value)
    return computed[target], tuple(str(node.name or node.outputs[0].name) for node in curved)


class Sums:
    """A Sums holds the parts of the scores that were added up so far, float64 `[K]` each."""

    def __init__(self, seed: Value) -> None:
        zero = (seed * 0).sum(list(range(1, seed.rank)), keepdims=False).cast(np.float64)
        self.totals = dict.fromkeys(PARTS, zero)

    def add(self, part: str, gradient: Value, value: Value) -> None:
        """Add <gradient, value> to a part, for a gradient `[K, *shape]` and a value that broadcasts against it."""
        products = gradient * value.cast(gradient.dtype)
        axes = list(range(1, products.rank))
        self.totals[part] = self.totals[part] + products.sum(axes, keepdims=False).cast(np.float64)
        size = products.abs().sum(axes, keepdims=False).cast(np.float64)
        self.totals["magnitude"] = self.totals["magnitude"] + size


def _token_ranges(layer: Layer) -> Sequence[tuple[str, int, int]]:
    """Return which positions of the layer belong to which part, as (part, start, stop) along the axis of tokens.

    Tokens beside the grid do not show in the map, and belong to the part "side".
    """
    if layer.grid is None or not (layer.grid.before or layer.grid.after):
        return [("layer", 0, INT_MAX)]
    before, after = layer.grid.before, layer.grid.after
    ranges = [("side", 0, before), ("layer", before, -after or INT_MAX), ("side", -after, INT_MAX)]
    return [one for one, there in zip(ranges, (before, True, after), strict=True) if there]


def _pictured(graph: Graph) -> frozenset[str]:
    """Return the tensors with values that depend on the model's inputs; lengths do not count."""
    fed = [name for name in graph.input_names if not graph.is_constant(name)]
    values = [name for name in fed if graph.is_float(name) or name in graph.quantised]
    return forward(graph.uses, values, leaves=lambda _, made: graph.is_float(made)).tensors
