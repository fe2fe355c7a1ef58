"""Which layer the programs in this folder take besides the default one."""

from __future__ import annotations

from pathlib import Path

import onnx

import onnx_xcam


def middle_layer(path: Path) -> str | None:
    """The bottleneck layer whose node lies nearest to the middle of the graph; not the default one."""
    place = {
        name: i for i, node in enumerate(onnx.load(path, load_external_data=False).graph.node) for name in node.output
    }
    layers = [layer for layer in onnx_xcam.inspect(path).layers if not layer.default and layer.name in place]
    return min(layers, key=lambda layer: abs(place[layer.name] - len(place) / 2)).name if layers else None
