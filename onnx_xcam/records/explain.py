"""A line of the results.jsonl that `explain` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from onnx_xcam.records.lines import VERSION, PhotoLine


class MapRecord(TypedDict):
    """What became of the maps of a photo's K classes, at one layer by one method.

    Attributes:
        layer: The name of the layer's tensor.
        method: The name of the CAM method.
        status: For each class: 0 good, 1 the map is zero, 2 the gradient is zero, 3 something is not finite.
    """

    layer: str
    method: str
    status: list[int]


class ExplainLine(PhotoLine):
    """A photo and the K classes that were explained for it.

    Attributes:
        layer: The layer of the first map.
        method: The method of the first map.
        classes: The ids of the K classes.
        labels: Their labels, null for a class that has none, or null where no labels are known.
        scores: Their scores before any softmax, null for one that is not finite.
        probabilities: Their probabilities, or null where the model tells none.
        status: The status of the first map.
        maps: All maps, the layers of the first method first; none if the photo failed.
    """

    layer: str
    method: str
    classes: list[int]
    labels: list[str | None] | None
    scores: list[float | None]
    probabilities: list[float | None] | None
    status: list[int]
    maps: list[MapRecord]


def of_first_form(record: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the first form as one of today's.

    There, the fields `layer` and `method` were lists where there were several of them, and `status` was a list of lists
    or a list of lists of lists; there were no `maps`.

    Raises:
        TypeError, ValueError, LookupError: it is no such line.
    """
    layers, methods = _several(record["layer"]), _several(record["method"])
    by_method = record["status"] if len(methods) > 1 else [record["status"]]
    maps = (
        [
            {"layer": layer, "method": method, "status": status}
            for method, of_method in zip(methods, by_method, strict=True)
            for layer, status in zip(layers, of_method if len(layers) > 1 else [of_method], strict=True)
        ]
        if record["error"] is None
        else []
    )
    first = {"layer": layers[0], "method": methods[0], "status": maps[0]["status"] if maps else []}
    found: dict[str, Any] = {"version": VERSION}
    for name, value in record.items():
        found[name] = first.get(name, value)
        if name == "status":
            found["maps"] = maps
    return found


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
