"""This module chooses which of several picture inputs is explained: the layers, maps and heat maps are those of it."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import picture_sides
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.ir.graph import Graph


@dataclass(frozen=True)
class Explained:
    """An Explained says which picture is explained.

    Attributes:
        names: the picture's input; all inputs if the model has no single image input.
        others: the other picture inputs.
        note: a sentence that the picture was chosen among several; None if there was no choice, or the user made it.
    """

    names: tuple[str, ...]
    others: tuple[str, ...] = ()
    note: str | None = None

    @property
    def name(self) -> str | None:
        """Return the name of the picture's input if the model has other pictures as well, else None."""
        return self.names[0] if self.others else None


def explained_picture(graph: Graph, wanted: str, score: str) -> Explained:
    """Return the picture to explain: the one that is named, or for "auto" the first that the score depends on.

    Raises:
        LayerError: no image input has that name.
    """
    names = pictures(graph)
    if wanted != "auto":
        if wanted not in names:
            listed = ", ".join(map(repr, names))
            raise LayerError(
                f"The model has no image input {wanted!r}{suggestion(wanted, names)}; a picture can be fed to {listed}."
            )
        return Explained((wanted,), tuple(name for name in names if name != wanted))
    used = [one for one in names if score in differentiable_path(graph, [one], [score]).tensors]
    if len(used) < 2 or picture_sides(graph.shape(names[0]) or ()) is None:
        return Explained(tuple(names))
    name = used[0]
    others = tuple(one for one in used if one != name)
    listed = " and ".join(f"'{one}'" for one in others)
    return Explained(
        (name,),
        others,
        f"Picture: the map is of '{name}', not of {listed}; another one is named with --picture (picture=).",
    )
