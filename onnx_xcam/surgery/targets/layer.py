"""A target layer: the tensor that a map is made of, and what its axes mean."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_xcam.contract import Grid, Layout
from onnx_xcam.surgery.axes.axes import Place
from onnx_xcam.surgery.ir.dims import Dim, Shape


@dataclass(frozen=True)
class Layer:
    """A tensor that can be a target layer.

    Attributes:
        name: the tensor.
        shown: what it is called outside; for a float that only the analysis has, the quantised tensor of the model.
        node: name of the node that makes it, "" if it has none; of a quantised one, of the node before quantisation.
        op: that node's operator.
        path: the module path that the exporter recorded, or "".
        shape: static shape.
        layout: what its axes mean.
        bottleneck: whether everything the score gets from the image passes through it.
        grid: where the picture's tokens stand, if it is a layer of tokens.
        places: where the grid's height and width are read off at run time, if they depend on the picture.
    """

    name: str
    shown: str
    node: str
    op: str
    path: str
    shape: Shape
    layout: Layout
    bottleneck: bool
    grid: Grid | None = None
    places: tuple[Place, ...] = ()

    @property
    def spatial(self) -> tuple[Dim, Dim]:
        """Height and width."""
        if self.grid is not None:
            return self.grid.height, self.grid.width
        at = self.layout.find("H")
        return self.shape[at], self.shape[at + 1]

    @property
    def names(self) -> list[str]:
        """What it is called: by its tensor, its node, its module path."""
        return [name for name in (self.shown, self.node, self.path) if name]

    @property
    def best_name(self) -> str:
        """The name that people know it by: its module path, else its tensor."""
        return self.path or self.shown
