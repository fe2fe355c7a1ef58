"""The axes of a graph's tensors as far as they have been followed: what the rules of operators read and write."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.ends import image_dependent
from onnx_xcam.surgery.axes.axes import Axes, fresh, unknown
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph


class Spread:
    """What is known of axes.

    Attributes:
        graph: the graph.
        found: the axes of tensors, by name.
        seen: the tensors that depend on a picture.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.found: dict[str, Axes] = {}
        self.seen = image_dependent(graph)

    def axes(self, node: gs.Node, index: int) -> Axes | None:
        """The axes of an input, None if its rank is not known."""
        if len(node.inputs) <= index:
            return None
        name = node.inputs[index].name
        if name not in self.found:
            shape = self.graph.shape(name)
            return None if shape is None else unknown(shape)
        return self.found[name]

    def dims(self, node: gs.Node, index: int) -> Shape:
        """The shape of an input whose rank is known."""
        return self.graph.shape(node.inputs[index].name) or ()

    def is_seen(self, node: gs.Node, index: int) -> bool:
        """Whether an input depends on a picture."""
        return len(node.inputs) > index and node.inputs[index].name in self.seen


Rule: TypeAlias = Callable[[Spread, gs.Node, int, Shape], "Axes | None"]
"""From a node, the index of one of its outputs and that one's shape to its axes, None if nothing is known of them."""


def said(node: gs.Node) -> str:
    """An operator as messages call it."""
    return f"{node.op} '{node.name or node.outputs[0].name}'"


def placed(roles: str, name: str, shape: Shape) -> Axes:
    """Whole axes with these roles, whose sizes can be read off the tensor `name`."""
    return tuple(fresh(role, dim, (name, axis)) for axis, (role, dim) in enumerate(zip(roles, shape, strict=True)))
