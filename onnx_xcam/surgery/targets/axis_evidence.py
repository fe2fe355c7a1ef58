"""This module says what a score table's axes stand for: images, places of the picture, time steps, or other rows."""

from __future__ import annotations

from functools import cached_property
from typing import Literal, TypeAlias

from onnx_xcam.surgery.analysis.ends import makers, pictures
from onnx_xcam.surgery.axes.axes import Axes, Axis, is_place, role_of
from onnx_xcam.surgery.axes.layouts import axis_roles
from onnx_xcam.surgery.ir.dims import Dim, Shape, known_size
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits

Kind: TypeAlias = Literal["places", "steps", "map", "rows"]
"""What a tensor holds numbers of: each place or box, each time step, a whole map, or several rows of something else."""

_FEW = 8
"""An axis of at most so many places may be a pooled one, if the sample's size is made up and exceeds the window."""


class AxisEvidence:
    """An AxisEvidence knows what the axes of a graph's tensors stand for, as far as a table of scores is concerned.

    Args:
        graph: the graph.
        sample: the same graph with numbers for a symbolic height and width, if they are symbolic.
    """

    def __init__(self, graph: Graph, sample: Graph | None = None) -> None:
        self.graph, self._sample = graph, sample or graph
        self._few = 1 if sample is None else _FEW

    @cached_property
    def _axes(self) -> dict[str, Axes]:
        """Return the axes of each tensor, as the sample has them."""
        return axis_roles(self._sample)

    @cached_property
    def _batches(self) -> list[Dim]:
        """Return the batch size of each picture input."""
        return [shape[0] for name in pictures(self.graph) if len(shape := self.graph.shape(name) or ()) == 4]

    def not_images(self, name: str, axis: int = 0) -> Kind | None:
        """Return what an axis stands for if it is known not to be the axis of the images; None if nothing is known."""
        if (kind := self.places(name, axis)) is not None:
            return kind
        if role_of(self._axis(name, axis)) != "N" and is_of_regions(self.graph, name):
            return "rows"
        shapes = [graph.shape(name) or () for graph in (self.graph, self._sample)]
        dims = [shape[axis] for shape in shapes if len(shape) == len(shapes[0])]
        length = next((dim for dim in dims if isinstance(dim, int)), None)
        fixed = bool(self._batches) and all(isinstance(batch, int) for batch in self._batches)
        if length is None:
            return "steps" if fixed and is_recurrent(self.graph, name) else None
        several = any(atom.role == "C" and atom.size not in (1, None) for atom in self._axis(name, axis))
        if length == 1 or length in self._batches or not (several or fixed):
            return None
        return "steps" if is_recurrent(self.graph, name) else "rows"

    def places(self, name: str, axis: int) -> Kind | None:
        """Return "places" if an axis runs over places of the picture, "steps" if over its width alone, else None."""
        atoms = [atom for atom in self._axis(name, axis) if is_place(atom) and atom.size != 1]
        count = known_size(atom.size for atom in atoms)
        if not atoms or count is None or count <= self._few:
            return None
        return "steps" if all(atom.role == "W" for atom in atoms) else "places"

    def _axis(self, name: str, axis: int) -> Axis:
        """Return one axis of a tensor; nothing if the tensor's axes are not known."""
        axes = self._axes.get(name, ())
        return axes[axis] if axis < len(axes) else ()


def is_picked(graph: Graph, name: str) -> bool:
    """Tell whether a tensor depends on boxes that were picked, as NonMaxSuppression picks them."""
    return any(traits(node).picks_boxes for node in makers(graph, name))


def is_of_regions(graph: Graph, name: str) -> bool:
    """Tell whether a tensor depends on regions that were pooled, of which an image has any number."""
    return any(traits(node).axes == "regions" for node in makers(graph, name))


def is_recurrent(graph: Graph, name: str) -> bool:
    """Tell whether a tensor depends on a recurrent layer, which goes step by step."""
    return any(traits(node).recurrent for node in makers(graph, name))


def of_rank_three_or_more(evidence: AxisEvidence, name: str, shape: Shape) -> Kind:
    """Return what a tensor holds that has two or more axes longer than 1 beside the axis of the images."""
    wide = [axis for axis, dim in enumerate(shape) if dim != 1]
    if len(shape) > 3:
        return "map"
    kinds = [evidence.places(name, axis) for axis in wide]
    if is_recurrent(evidence.graph, name) or "steps" in kinds:
        return "map" if "places" in kinds or kinds.count("steps") > 1 else "steps"
    return "places" if "places" in kinds else "rows"
