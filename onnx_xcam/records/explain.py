"""This module defines a line of the results.jsonl that `explain` writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from onnx_xcam.records.lines import VERSION, PhotoLine


class MapRecord(TypedDict):
    """This record holds the status of the maps of a photo's K classes, at one layer by one method.

    Attributes:
        layer: The name of the layer's tensor.
        method: The name of the CAM method.
        status: For each class or object: 0 good, 1 the map is zero, 2 the gradient is zero, 3 something is not finite.
    """

    layer: str
    method: str
    status: list[int]


class ExplainLine(PhotoLine):
    """This record describes a photo, the K classes that were explained for it, and their maps.

    Attributes:
        layer: The layer of the first map.
        method: The method of the first map.
        classes: The ids of the K classes.
        labels: The labels of the classes, null for a class that has none, or null where no labels are known.
        scores: The scores of the classes before any softmax, null for one that is not finite.
        probabilities: The probabilities of the classes, or null where the model gives none.
        status: The status of the first map.
        maps: All maps, the layers of the first method first; none if the photo failed.
        task: What the model is for; lines that do not say it are of classifiers.
        objects: The candidates that were explained, only of a model of objects: an anchor, a query or a row each. An
            object that the photo does not have is left out.
        boxes: The boxes x1, y1, x2, y2 of the objects in the photo's pixels, or null where they are not known; only of
            a model of objects.
        against: The classes with which the explained ones are contrasted, -1 for none; only with a contrast.
    """

    layer: str
    method: str
    classes: list[int]
    labels: list[str | None] | None
    scores: list[float | None]
    probabilities: list[float | None] | None
    status: list[int]
    maps: list[MapRecord]
    task: NotRequired[str]
    objects: NotRequired[list[int]]
    boxes: NotRequired[list[list[float]] | None]
    against: NotRequired[list[int]]


def of_first_form(record: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a line of the first form to the current form.

    In the first form, the fields `layer` and `method` were lists where there were several of them, and `status` was a
    list of lists or a list of lists of lists; there were no `maps`.

    Raises:
        TypeError, ValueError, LookupError: the record is not a line of the first form.
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
    current: dict[str, Any] = {"version": VERSION}
    for name, value in record.items():
        current[name] = first.get(name, value)
        if name == "status":
            current["maps"] = maps
    return current


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
