"""This module words the notes on an explanation: what was assumed, what its limits are, and what else could be done."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam import contract
from onnx_xcam.cams.methods import METHODS, Method
from onnx_xcam.common.operators import called
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.analysis.foreign_operators import foreign_among
from onnx_xcam.surgery.autodiff.backward import is_rectifier
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard
from onnx_xcam.surgery.tail.tail import image_tensor
from onnx_xcam.surgery.targets.analysis import Analysis
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers
from onnx_xcam.surgery.targets.target import Target
from onnx_xcam.surgery.targets.window import is_padded_in_a_run


def notes_on(analysis: Analysis, method: Method) -> tuple[str, ...]:
    """Return all notes on what was assumed of a model and of its explanation, and on what limits its maps."""
    graph, target, picture = analysis.graph, analysis.target, analysis.layers.explained
    return (
        *analysis.changes,
        *target.notes,
        *([picture.note] if picture.note else []),
        *_on_layers(analysis),
        *_on_window(analysis),
        *_on_one_answer(graph, target),
        *_on_quantised(graph, analysis.chosen_layers, target),
        *_on_guided(graph, target, method, picture.name),
    )


def _on_layers(analysis: Analysis) -> list[str]:
    """Return the notes on the layers: operator, layout and size of each, and why it was chosen; one note for a cut."""
    by_reason: dict[str, list[str]] = {}
    for layer in analysis.chosen_layers:
        by_reason.setdefault(_reason(analysis, layer), []).append(_described(layer))
    if not analysis.is_cut:
        return [f"Layer: {layer}, {why}." for why, layers in by_reason.items() for layer in layers]
    members = [f"{'; '.join(layers)}, {'each ' if layers[1:] else ''}{why}" for why, layers in by_reason.items()]
    return [f"Cut: {'; '.join(members)}{'; their maps are added up' if len(analysis.chosen_layers) > 1 else ''}."]


def _on_window(analysis: Analysis) -> list[str]:
    """Return the note on the part of the picture that the layers cover, if it is not the whole picture."""
    if analysis.window is None:
        layers = analysis.layers
        if not analysis.is_cut or not is_padded_in_a_run(layers.graph, layers.path.nodes):
            return []
        return [
            "Picture: the model pads it by as much as a run tells, and the map, which is of the padded picture, is "
            "stretched over the picture; export it with numbers for height and width to have the padding cut off."
        ]
    top, left, bottom, right = (100 * edge for edge in analysis.window)
    return [
        f"Picture: the model pads or crops it, so that its layers cover {top:.1f} to {bottom:.1f} % of the height and "
        f"{left:.1f} to {right:.1f} % of the width; the map is cut to the picture."
    ]


def _described(layer: Layer) -> str:
    """Return a layer's name, operator, layout and size in words."""
    size = contract.shape_text(layer.shape)
    path = f", module '{layer.path}'" if layer.path else ""
    return f"'{layer.public_name}' ({layer.op}{path}), {layer.layout} {size}{_tokens(layer)}"


def _reason(analysis: Analysis, layer: Layer) -> str:
    """Return why a layer was chosen, and what its map lacks."""
    if analysis.request.layers == "auto":
        return analysis.target.why_default(analysis.layers, layer)
    others = analysis.layers.grids(layer)[1:]
    lacks = [f"its map leaves out {len(others)} further grid{'s' if others[1:] else ''} of tokens"] if others else []
    return "; ".join(["as asked", *analysis.layers.limits(layer), *lacks])


def _tokens(layer: Layer) -> str:
    """Return the words on the token grid of a layer; "" for a layer without tokens."""
    if layer.grid is None:
        return ""
    height, width, before, after = layer.grid
    others = [f"{count} {where}" for count, where in ((before, "before"), (after, "after")) if count]
    return f" of {height or '?'} x {width or '?'} tokens" + (f" and others ({', '.join(others)})" if others else "")


def _on_one_answer(graph: Graph, target: Target) -> list[str]:
    """Return the note that a model gives one answer for all images of a run, as those of several crops or frames do."""
    images = [shape[0] for name in pictures(graph) if (shape := graph.shape(name))]
    if target.batch is not None and target.shape[target.batch] != 1:
        return []
    if not images or images[0] == 1:
        return []
    size = contract.shape_text(target.shape)
    return [f"Batch: the score {size} is one answer for all images of a run; each image is to be run alone."]


def _on_quantised(graph: Graph, chosen: Sequence[Layer], target: Target) -> list[str]:
    """Return the note on the gradient of a quantised model, if the gradient passes through quantised values."""
    passed = differentiable_path(graph, [layer.name for layer in chosen], [target.name]).nodes
    if not any(traits(node).quantises for node in passed):
        return []
    return ["Quantised: the gradient passes where a value is rounded and stops where it is clipped (straight-through)."]


def _on_guided(graph: Graph, target: Target, method: Method, picture: str | None) -> list[str]:
    """Return the note on guided backpropagation in this model, if the method uses it."""
    if not method.is_guided:
        return []
    passed = differentiable_path(graph, [image_tensor(graph, target.name, picture).name], [target.name]).nodes
    count = sum(is_rectifier(graph, node) for node in passed)
    if not count:
        return ["Guided: the model has no ReLU, so the guided gradient of the input is its plain gradient."]
    return [f"Guided: only what is positive of the gradient passes the model's {count} ReLUs."]


def advice_on_missing_rules(layers: Layers, chosen: Sequence[Layer]) -> str:
    """Return what can be done where an operator behind a layer has no gradient rule; "" where all operators have one.

    The advice is the nearest layer that works, or a method that needs no gradient.
    """
    for layer in chosen:
        if not (missing := layers.unsupported(layer)):
            continue
        near = layers.nearest_that_works(layer)
        later = f"The nearest layer that works is '{near.public_name}'." if near else "No later layer works either."
        if foreign := foreign_among(missing, layers.graph.opset):
            (domain, op), *_ = foreign.nodes
            return f"{later} {called(domain, op)} is no operator of ONNX but {foreign.origin()}."
        others = f"explain, compare and evaluate have methods that need no gradient: --method {_without_gradient()}."
        own = next((called(node.domain, node.op) for node in missing if not is_standard(node.domain)), None)
        return f"{later} Where ONNX Runtime has {own}, {others}" if own else f"{later} {others[0].upper()}{others[1:]}"
    return ""


def _without_gradient() -> str:
    """Return the names of the methods that need no gradient, whatever lies behind the layer, joined by "or"."""
    *first, last = [m.name for m in METHODS.values() if not m.is_emitted and "gradients" not in m.needs]
    return f"{', '.join(first)} or {last}"
