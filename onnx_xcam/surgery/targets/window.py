"""This module finds which part of the picture the layers of a model cover, where it pads or crops its picture first.

Detectors that take pictures of any size pad them, mostly to a multiple of 32, before the first convolution: the
GeneralizedRCNNTransform of torchvision does (`batch_images`, torchvision/models/detection/transform.py). The layers
then cover more than the picture, evenly from edge to edge of what the first convolution reads.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_graphsurgeon as gs

from onnx_xcam.contract import Window
from onnx_xcam.surgery.analysis.picked_positions import ints
from onnx_xcam.surgery.axes.axes import Axes, at_of, is_adrift, role_of, size_of
from onnx_xcam.surgery.axes.places import edges, in_order, listed
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits


def window_of_layers(graph: Graph, nodes: Collection[gs.Node], roles: dict[str, Axes]) -> Window | None:
    """Return which part of the picture is covered by what the first convolutions read.

    Args:
        graph: the model, with numbers for height and width.
        nodes: the nodes from the picture to the score, in topological order.
        roles: the axes of tensors.

    Returns:
        The part; None if it is the whole picture up to one pixel, or is not known, or differs between convolutions.
    """
    found = {_window(graph, node, roles) for node in _first_readers(nodes)}
    return found.pop() if len(found) == 1 else None


def is_padded_in_a_run(graph: Graph, nodes: Collection[gs.Node]) -> bool:
    """Tell whether the picture is padded before the first convolutions by amounts that only a run tells.

    Args:
        graph: the model.
        nodes: the nodes from the picture to the score, in topological order.
    """
    readers = {id(node) for node in _first_readers(nodes)}
    for node in nodes:
        if id(node) in readers:
            return False
        if traits(node).axes == "padded" and ints(graph, node, 1, "pads") is None:
            return True
    return False


def _first_readers(nodes: Collection[gs.Node]) -> list[gs.Node]:
    """Return the operators on images that read no result of another one."""
    first, behind = list[gs.Node](), set[str]()
    for node in nodes:
        read = {str(tensor.name) for tensor in node.inputs}
        reads_images = traits(node).reads_images
        if reads_images and not read & behind:
            first.append(node)
        if reads_images or read & behind:
            behind.update(str(out.name) for out in node.outputs)
    return first


def _window(graph: Graph, node: gs.Node, roles: dict[str, Axes]) -> Window | None:
    """Return which part of the picture an operator's input covers; None if all of it."""
    axes = roles.get(str(node.inputs[0].name), ())
    ends = {}
    for at, axis in enumerate(axes):
        role, size = role_of(axis), size_of(axis)
        if is_adrift(axis) or role not in ("H", "W"):
            continue
        places = at_of(axis)
        if places is None or not isinstance(size, int) or not in_order(listed(places, size)):
            continue
        first, last = edges(places, size)
        pixel = (last - first) / size
        beyond = max(-first, last - 1) / pixel
        if max(abs(first), abs(last - 1)) > 1.01 * pixel and not _takes_off(graph, node, at, beyond):
            ends[role] = (round(first, 6) + 0.0, round(last, 6))  # places are stored with 9 digits
    (top, bottom), (left, right) = (ends.get(role, (0.0, 1.0)) for role in "HW")
    return Window(top, left, bottom, right) if ends else None


def _takes_off(graph: Graph, node: gs.Node, axis: int, beyond: float) -> bool:
    """Tell whether an operator pads nothing itself, and its windows take off again what was padded before it.

    Args:
        graph: the model.
        node: the operator.
        axis: the axis of height or width.
        beyond: by how many pixels the operator's input reaches beyond the picture, on the side where it does most.
    """
    if traits(node).axes != "windowed" or axis < 2:
        return False
    if any(node.attrs.get("pads") or []) or str(node.attrs.get("auto_pad", "NOTSET")).startswith("SAME"):
        return False
    weights = graph.shape(node.inputs[1].name) if traits(node).weighted and len(node.inputs) > 1 else None
    kernel = (node.attrs.get("kernel_shape") or (weights or ())[2:] or [1, 1])[axis - 2]
    return isinstance(kernel, int) and beyond < kernel - 0.5
