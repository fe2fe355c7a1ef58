"""Besides the default layer the programs take one in the middle of the graph, which is found here."""

from __future__ import annotations

import itertools
from pathlib import Path

import onnx

import onnx_xcam


def middle_layer(path: Path) -> str | None:
    """The bottleneck layer before the default one whose node lies nearest to the middle of the graph."""
    return next(iter(by_nearness_to_the_middle(path)), None)


def by_nearness_to_the_middle(path: Path) -> list[str]:
    """The bottleneck layers before the default one, those nearest to the middle of the graph first."""
    nodes = onnx.load(path, load_external_data=False).graph.node
    place = {name: i for i, node in enumerate(nodes) for name in node.output}
    layers = onnx_xcam.inspect(path).layers
    if any(layer.name not in place for layer in layers):  # inside a local function: the middle of the layers
        place = {layer.name: i for i, layer in enumerate(layers)}
    earlier = itertools.takewhile(lambda layer: not layer.default, layers)
    return [layer.name for layer in sorted(earlier, key=lambda layer: abs(place[layer.name] - len(place) / 2))]
