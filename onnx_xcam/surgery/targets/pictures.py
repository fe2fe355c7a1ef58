"""Which of several picture inputs is explained: layers, maps and heat maps are those of that picture."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import image_axes
from onnx_xcam.errors import LayerError
from onnx_xcam.surgery.analysis.differentiable_path import differentiable_path
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.ir.graph import Graph


@dataclass(frozen=True)
class Explained:
    """The picture that is explained.

    Attributes:
        names: the input; of a model without a single image input, all of its inputs.
        others: the other picture inputs.
        note: that it was chosen among several, as a sentence; None where there was no choice, or the user made it.
    """

    names: tuple[str, ...]
    others: tuple[str, ...] = ()
    note: str | None = None

    @property
    def name(self) -> str | None:
        """The input, if there are other pictures that it has to be told from."""
        return self.names[0] if self.others else None


def explained_picture(graph: Graph, wanted: str, score: str) -> Explained:
    """The picture to explain: the one that is named; for "auto" the first that the score depends on.

    Raises:
        LayerError: the name is that of no image input.
    """
    found = pictures(graph)
    if wanted != "auto":
        if wanted not in found:
            listed = ", ".join(map(repr, found))
            raise LayerError(
                f"The model has no image input {wanted!r}{suggestion(wanted, found)}; a picture can be fed to {listed}."
            )
        return Explained((wanted,), tuple(name for name in found if name != wanted))
    used = [one for one in found if score in differentiable_path(graph, [one], [score]).tensors]
    if len(used) < 2 or image_axes(graph.shape(found[0]) or ()) is None:
        return Explained(tuple(found))
    name = used[0]
    others = tuple(one for one in used if one != name)
    listed = " and ".join(f"'{one}'" for one in others)
    return Explained(
        (name,),
        others,
        f"Picture: the map is of '{name}', not of {listed}; another one is named with --picture (picture=).",
    )
