"""This module defines the target layer: the tensor that a map is made of, and what its axes mean."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_xcam.contract import Grid, Layout
from onnx_xcam.surgery.axes.axes import Place
from onnx_xcam.surgery.ir.dims import Dim, Shape


@dataclass(frozen=True)
class Layer:
    """A Layer describes a tensor that can be a target layer.

    Attributes:
        name: the tensor.
        public_name: the name that users see; for a float that only the analysis has, the quantised tensor of the model.
        node: the name of the node that computes it, "" if it has none; of a quantised one, of the node before
            quantisation.
        op: that node's operator.
        path: the module path that the exporter recorded, or "".
        shape: the static shape.
        layout: what the axes mean.
        bottleneck: whether everything the score gets from the image passes through this layer.
        grid: the positions of the picture's tokens, if it is a layer of tokens.
        places: the axes from which the grid's height and width are read at run time, if they depend on the picture.
        lacks: what is missing in a member of a cut, as parts of a sentence.
    """

    name: str
    public_name: str
    node: str
    op: str
    path: str
    shape: Shape
    layout: Layout
    bottleneck: bool
    grid: Grid | None = None
    places: tuple[Place, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def spatial(self) -> tuple[Dim, Dim]:
        """Return height and width."""
        if self.grid is not None:
            return self.grid.height, self.grid.width
        at = self.layout.find("H")
        return self.shape[at], self.shape[at + 1]

    @property
    def names(self) -> list[str]:
        """Return all names of the layer: its tensor, its node and its module path."""
        return [name for name in (self.public_name, self.node, self.path) if name]

    @property
    def best_name(self) -> str:
        """Return the name that people know the layer by: its module path, else its tensor."""
        return self.path or self.public_name
