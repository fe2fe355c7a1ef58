"""This module finds the layer that a name means, by the names that are accepted when a model is opened."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.common import arguments
from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.errors import LayerError


def layer_index(layer: int | str, layers: Sequence[str], names: Sequence[Sequence[str]], what: str) -> int:
    """Return the index of the layer that an index or a name means.

    Args:
        layer: an index, a tensor's name, or another of a layer's names: the one by which it was requested, its node,
            its module path, a module that it lies in, or a part of a name that fits only one layer.
        layers: the names of the layers' tensors.
        names: for each layer its other names; may be empty.
        what: what has these layers, for messages: "This explanation".

    Raises:
        LayerError: there is no such layer, or the name fits several.
    """
    if arguments.is_whole(layer) and -len(layers) <= int(layer) < len(layers):
        return int(layer) % len(layers)
    every = [[tensor, *(names[i] if i < len(names) else ())] for i, tensor in enumerate(layers)]
    if isinstance(layer, str) and layer:
        for fits in (_is, _within, _contains):
            fitting = [index for index, own in enumerate(every) if any(fits(name, layer) for name in own if name)]
            if len(fitting) == 1:
                return fitting[0]
            if fitting:
                listed = ", ".join(repr(layers[index]) for index in fitting)
                raise LayerError(f"{what} has several layers that {layer!r} fits: {listed}; name one of them.")
    known = [name for own in every for name in own if name]
    hint = suggestion(str(layer), known, 1)
    raise LayerError(f"{what} has no layer {arguments.short_repr(layer)}{hint}; it has {', '.join(map(repr, layers))}.")


def _is(name: str, wanted: str) -> bool:
    """Tell whether a layer's name is the wanted one."""
    return name == wanted


def _within(name: str, wanted: str) -> bool:
    """Tell whether a layer lies in the wanted module."""
    return name.startswith(f"{wanted}.")


def _contains(name: str, wanted: str) -> bool:
    """Tell whether a layer's name contains the wanted text."""
    return wanted in name
