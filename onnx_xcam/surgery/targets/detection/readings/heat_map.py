"""This module reads maps of one level: a heat map of the objects' middles, and maps of their sizes and offsets.

| maps | families | source |
|---|---|---|
| heat `[N,C,h,w]`, sizes `[N,2,h,w]`, offsets `[N,2,h,w]` | CenterNet: width, height and x, y in cells | src/lib/models/decode.py of xingyizhou/CenterNet |
| heat `[N,1,h,w]`, sizes, offsets, landmarks `[N,10,h,w]` | CenterFace: logarithms of height, width, and y, x from the middle of each cell | prj-python/centerface.py of Star-Clouds/CenterFace |

Both give sizes before offsets; where names say otherwise, these count.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.levels import level_maps
from onnx_xcam.surgery.targets.detection.scores import kind_of
from onnx_xcam.surgery.targets.detection.spans import Span
from onnx_xcam.surgery.targets.detection.tables import (
    CENTER_FACE,
    GRID_AND_SIZE,
    BoxColumns,
    Part,
    Scores,
    TableReading,
    table_notes,
)

_OFFSETS = ("reg", "off")
"""The name of a map of offsets begins with one of these words."""
_LANDMARKS = 10
"""CenterFace gives five points of each face."""


@dataclass(frozen=True, kw_only=True)
class HeatMap(TableReading):
    """A HeatMap is a map of the objects' middles, with maps of their boxes."""

    form: ClassVar[str] = "a heat map of objects with their sizes and offsets"


def find(outputs: Outputs) -> HeatMap | None:
    """Return how the outputs are read, None if there is no heat map with sizes and offsets.

    Two heat maps of one grid are of something else than middles, such as the two corners of CornerNet's boxes.
    """
    maps = [name for name in outputs.names if len(outputs.shape(name)) == 4]
    heats = [name for name in maps if kind_of(outputs.graph, Span(name)) == "sigmoid"]
    for name in heats:
        beside = [other for other in maps if other != name and outputs.shape(other)[2:] == outputs.shape(name)[2:]]
        pairs = [other for other in beside if outputs.shape(other)[1] == 2 and _is_layer(outputs, other)]
        if len(pairs) == 2 and not set(beside) & set(heats):
            landmarks = any(outputs.shape(other)[1] == _LANDMARKS for other in beside)
            return _reading(outputs, name, _in_order(pairs), of_faces=landmarks and outputs.shape(name)[1] == 1)
    return None


def _is_layer(outputs: Outputs, name: str) -> bool:
    """Tell whether a layer makes an output."""
    return kind_of(outputs.graph, Span(name, 1, 0, 2)) == "layer"


def _in_order(pairs: Sequence[str]) -> tuple[str, str]:
    """Return the maps of sizes and of offsets."""
    first, second = pairs
    swapped = first.lower().startswith(_OFFSETS) and not second.lower().startswith(_OFFSETS)
    return (second, first) if swapped else (first, second)


def _reading(outputs: Outputs, heat: str, pairs: tuple[str, str], *, of_faces: bool) -> HeatMap | None:
    """Return the reading of a heat map with maps of sizes and offsets."""
    count = outputs.shape(heat)[1]
    if not isinstance(count, int):
        return None
    sizes, offsets = pairs
    scores = Scores((Part(heat, 1, 0, count),))
    parts = (Part(offsets, 1, 0, 2), Part(sizes, 1, 0, 2))
    maps = level_maps(outputs, parts[0].span, 2)
    code = None if maps is None else CENTER_FACE if of_faces else GRID_AND_SIZE
    boxes = BoxColumns(parts, code, maps or (), beside=True)
    return HeatMap(
        outputs=[heat],
        box_tensors=[sizes, offsets],
        scores=scores,
        boxes=boxes,
        read_by=outputs,
        notes=table_notes(scores, boxes),
    )
