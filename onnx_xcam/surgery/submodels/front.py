"""This module makes a model of the front of another one: from a picture up to the layers with weights that read it."""

from __future__ import annotations

import onnx

from onnx_xcam.surgery.analysis.reachability import backward, forward
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.uses import Uses
from onnx_xcam.surgery.submodels.part import part_making


def front(skeleton: onnx.ModelProto, picture: str) -> onnx.ModelProto:
    """Return the part of a model that shows how it scales a picture, which is analysed faster than the whole.

    It has every node that depends on the picture, up to the first layers with weights (kernels of one pixel, which may
    be part of a scaling, do not end it), all that these nodes read, and what comes out of the last ones as outputs.
    Nodes that no output of the model depends on are left out.

    Args:
        skeleton: a model, which may lack its weights.
        picture: the name of the picture's input.
    """
    graph = skeleton.graph
    uses = Uses(graph.node)
    pixels = {tensor.name for tensor in graph.initializer if len(tensor.dims) > 2 and set(tensor.dims[2:]) == {1}}
    wanted = set(backward(uses, [value.name for value in graph.output]).positions)

    def leaves(node: onnx.NodeProto, _: str) -> bool:
        return not proto_traits(node).weighted or not pixels.isdisjoint(node.input)

    def enters(node: onnx.NodeProto, _: str) -> bool:
        return proto_traits(node).axes != "made"  # the shape alone

    ahead = forward(uses, [picture], enters=enters, leaves=leaves)
    taken = [position for position in ahead.positions if position in wanted]
    made = [name for position in taken for name in uses.makes[position]]
    read = {name for position in taken for name in uses.reads[position]}
    return part_making(skeleton, [name for name in made if name not in read], uses)
