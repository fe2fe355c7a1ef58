"""This module finds the layer that a name means: a tensor, a node, a PyTorch module path, or a unique part of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.axes.axes import roles_of
from onnx_xcam.surgery.axes.layouts import displaced, layout_of, may_be_nchw
from onnx_xcam.surgery.builder.forward_values import float_for
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers

Defaults: TypeAlias = Callable[[Layers], list[Layer]]
"""A function of this type returns a task's default layers, or raises a LayerError if there are none."""


class Chosen(NamedTuple):
    """A Chosen is a layer with the name by which it was asked for, which is "auto" for a default layer."""

    layer: Layer
    asked: str


def resolve(layers: Layers, wanted: str | Sequence[str], defaults: Defaults) -> list[Chosen]:
    """Return the layers that were asked for: "auto" for the default, a name, or several names.

    Raises:
        LayerError: as `find`; or no layer was named, or the same one twice.
    """
    names = [wanted] if isinstance(wanted, str) else wanted
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise LayerError(f"layers is a layer's name or a list of names, not {wanted!r}.")
    if not all(names) or not names:
        raise LayerError('No layer was named; use "auto" for the default.')
    chosen = [
        Chosen(layer, name)
        for name in names
        for layer in (defaults(layers) if name == "auto" else [find(layers, name, defaults)])
    ]
    seen = set()
    for layer, _ in chosen:
        if (layer.name, layer.grid) in seen:
            raise LayerError(f"The layer '{layer.public_name}' was named twice.")
        seen.add((layer.name, layer.grid))
    return chosen


def find(layers: Layers, wanted: str, defaults: Defaults) -> Layer:
    """Return the layer that a tensor name, node name, module path or unique part of one means.

    Args:
        layers: the model's candidate layers.
        wanted: the name.
        defaults: returns the layers that error messages propose instead.

    Raises:
        LayerError: the name is unknown or ambiguous, or its tensor is not spatial or not on the way to the score.
    """
    graph = layers.graph
    name = _exact(layers, wanted)
    if name is None:
        name = _by_part(layers, wanted)
    name = float_for(graph, graph.same.get(name, name))
    if layers.takes_volumes():
        raise LayerError(layers.why_none())
    called = f"'{wanted}'" if graph.public_name(name) == wanted else f"'{wanted}' (tensor '{name}')"
    if why_not := _why_no_layer(layers, name, called):
        raise LayerError(f"{why_not}{_instead(layers, defaults)}.")
    shape = graph.shape(name) or ()
    layer = layers.layer(name, shape, layout_of(layers.roles.get(name)) or "NCHW", bottleneck=False)
    if all(dim == 1 for dim in layer.spatial):
        why_not = f"{called} is not a spatial layer any more: its shape is {list(shape)}"
        raise LayerError(f"{why_not}{_instead(layers, defaults)}.")
    return layer


def _exact(layers: Layers, wanted: str) -> str | None:
    """Return the tensor with this full name: its own, its node's, or that of a module that it is the last one of."""
    graph = layers.graph
    if wanted in graph.producer or wanted in graph.input_names:
        return wanted
    for node in graph.nodes:
        if node.name == wanted and node.outputs:
            return str(node.outputs[0].name)
    inside = [
        node
        for i, node in enumerate(graph.nodes)
        if (path := graph.scopes.get(i, "")) == wanted or path.startswith(wanted + ".")
    ]
    on_the_way = [node for node in inside if node.outputs[0].name in layers.path.tensors]
    last = (on_the_way or inside)[-1:]
    return str(last[0].outputs[0].name) if last else None


def _by_part(layers: Layers, wanted: str) -> str:
    """Return the only candidate with a name that contains a text.

    Raises:
        LayerError: no candidate or more than one has such a name.
    """
    matches = [layer for layer in layers.candidates if wanted and any(wanted in name for name in layer.names)]
    if len(matches) == 1:
        return matches[0].name
    if matches:
        listed = ", ".join(f"'{layer.best_name}'" for layer in matches[-5:])
        raise LayerError(f"'{wanted}' fits {len(matches)} layers, among them {listed}; name one of them.")
    known = [name for layer in layers.candidates for name in layer.names]
    raise LayerError(f"There is no layer '{wanted}'{suggestion(wanted, known)}; 'onnx-xcam inspect' lists the layers.")


def _why_no_layer(layers: Layers, name: str, called: str) -> str | None:
    """Return why a tensor cannot be a layer, as a sentence without its full stop; None if it can."""
    graph = layers.graph
    shape, axes = graph.shape(name), layers.roles.get(name)
    if shape is None or (layout_of(axes) is None and (len(shape) != 4 or not may_be_nchw(axes))):
        listed = "unknown" if shape is None else f"{list(shape)}{_why_not_spatial(layers, name, shape)}"
        return f"{called} is not a spatial layer: its shape is {listed}"
    if why := displaced(axes):
        return f"A map of {called} cannot be laid on the picture: {why}"
    if not graph.is_float(name):
        return f"{called} holds {graph.dtype(name)} values, which have no gradient"
    if name not in graph.producer:
        return f"{called} is an input of the model, not a layer"
    return None if name in layers.path.tensors else _why_not_on_the_way(layers, name, called)


def _why_not_on_the_way(layers: Layers, name: str, called: str) -> str:
    """Return why a tensor is not between the explained picture and the score, as a sentence without its full stop."""
    if others := layers.others_behind(name):
        made_of = " and ".join(map(repr, others))
        return f"{called} is made of {made_of}, not of '{layers.explained.name}', the picture that is explained"
    return f"The score '{layers.score}' does not depend on {called} by a gradient"


def _why_not_spatial(layers: Layers, name: str, shape: Shape) -> str:
    """Return what is known of axes that make no spatial layer, as the end of a sentence."""
    if why := displaced(layers.roles.get(name)):
        return f"; {why}"
    roles = roles_of(layers.roles.get(name, ()))
    if len(shape) == 3 and "T" in roles:
        return f"; its axis {roles.find('T')} is a grid of tokens whose height and width are no fixed numbers"
    if len(shape) == 3:
        return ", and no height and width could be followed from the image to its axes"
    return f", and its axes are {', '.join(roles)} where N,C,H,W or N,H,W,C is needed" if len(shape) == 4 else ""


def _instead(layers: Layers, defaults: Defaults) -> str:
    """Return the sentence's end that names the default layers; "" if there are none."""
    try:
        proposed = defaults(layers)
    except LayerError:
        return ""
    names = " and ".join(f"'{layer.best_name}'" for layer in proposed)
    return f"; the default would be {names}"
