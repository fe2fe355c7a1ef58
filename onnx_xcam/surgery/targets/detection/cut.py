"""This module finds the cut of a detector: one layer per pyramid level that together carry all evidence.

Of each level it is the last layer from which both the scores and the boxes of the level are made, and through which
everything passes that the level's scores get from the picture. What lies behind it belongs to the class branch alone.
"""

from __future__ import annotations

from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers


def cut_of(layers: Layers, reading: Reading) -> list[Layer]:
    """Return the members of the cut, finest first.

    Raises:
        LayerError: there is no layer from which scores and boxes are made.
    """
    graph = layers.graph
    shared = backward(graph.uses, reading.box_tensors).tensors
    members: dict[str, Layer] = {}
    for level in levels(graph, layers.score):
        if (member := _last_shared(layers, level, shared)) is not None:
            members[member.name] = member
    if not members:
        raise LayerError(layers.why_none())
    return list(members.values())


def levels(graph: Graph, score: str) -> list[str]:
    """Return the tensors that are joined to the score, one per pyramid level; the score itself if nothing is joined.

    Between these and the score values are only moved.
    """
    name = score
    while (node := graph.producer.get(name)) is not None:
        facts = traits(node)
        if facts.axes == "concatenated":
            return [str(tensor.name) for tensor in node.inputs if not graph.is_constant(str(tensor.name))]
        if facts.values > Values.PICKED and not (facts.casts or facts.dequantises or facts.quantises_as_told):
            return [name]
        name = str(node.inputs[0].name)
    return [name]


def _last_shared(layers: Layers, level: str, shared: frozenset[str]) -> Layer | None:
    """Return the last layer that everything in a level's scores passes through, and that the boxes are made from."""
    of_level = Layers(layers.graph, level, layers.sample, _picture(layers))
    fitting = [layer for layer in of_level.candidates if layer.bottleneck and layer.name in shared]
    return fitting[-1] if fitting else None


def _picture(layers: Layers) -> str:
    """Return the picture input that is explained, or "auto" where there is only one."""
    return layers.explained.name or "auto"


def why_cut(layers: Layers, layer: Layer) -> str:
    """Return why a layer is a member of the cut, as a phrase for users."""
    return "; ".join(["the last layer of its level that scores and boxes are made from", *layers.limits(layer)])
