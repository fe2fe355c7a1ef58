"""This module holds the axes of a graph's tensors as far as they have been followed, for the rules of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.ends import image_dependent
from onnx_xcam.surgery.axes.axes import Axes, fresh, unknown
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph


class KnownAxes:
    """A KnownAxes holds the axes of tensors as far as they are known yet.

    Attributes:
        graph: the graph.
        by_name: the axes of tensors, by name.
        image_dependent: the tensors that depend on a picture.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.by_name: dict[str, Axes] = {}
        self.image_dependent = image_dependent(graph)

    def axes(self, node: gs.Node, index: int) -> Axes | None:
        """Return the axes of an input, None if its rank is not known."""
        if len(node.inputs) <= index:
            return None
        name = node.inputs[index].name
        if name not in self.by_name:
            shape = self.graph.shape(name)
            return None if shape is None else unknown(shape)
        return self.by_name[name]

    def dims(self, node: gs.Node, index: int) -> Shape:
        """Return the shape of an input of known rank."""
        return self.graph.shape(node.inputs[index].name) or ()

    def depends_on_picture(self, node: gs.Node, index: int) -> bool:
        """Tell whether an input depends on a picture."""
        return len(node.inputs) > index and node.inputs[index].name in self.image_dependent


Rule: TypeAlias = Callable[[KnownAxes, gs.Node, int, Shape], "Axes | None"]
"""A rule returns an output's axes from the node, the output's index and its shape; None if nothing is known."""


def label(node: gs.Node) -> str:
    """Return the operator and the name of a node, for messages."""
    return f"{node.op} '{node.name or node.outputs[0].name}'"


def placed(roles: str, name: str, shape: Shape) -> Axes:
    """Return whole axes with these roles, with sizes that can be read from the tensor `name`."""
    return tuple(fresh(role, dim, (name, axis)) for axis, (role, dim) in enumerate(zip(roles, shape, strict=True)))
