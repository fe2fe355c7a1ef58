"""This module holds what a page of photos shows, as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.explainer import Explanation
from onnx_xcam.explainer.class_maps import FUSED_LAYER
from onnx_xcam.images.place import Placement
from onnx_xcam.text import printable


@dataclass(frozen=True)
class ClassResult:
    """A ClassResult is a class that is explained for a photo, or an object with its class.

    Attributes:
        id: the id of the class.
        label: the label, or None.
        score, probability: None where unknown or not finite.
        object: the candidate of the model that the object is; None for a class of the whole photo.
        box: x1, y1, x2, y2 of the object in the photo's pixels, which may reach beyond the photo; None where unknown.
        against: the class with which the explained one is contrasted, in words; None without contrast.
    """

    id: int
    label: str | None
    score: float | None
    probability: float | None
    object: int | None = None
    box: tuple[float, float, float, float] | None = None
    against: str | None = None


@dataclass(frozen=True)
class Maps:
    """A Maps holds the raw maps of a photo's K classes, by one method at one layer.

    Attributes:
        method, layer: the names of the method and of the layer.
        values: float32 [K,h,w], neither resized nor scaled; never changed.
        status: for each class, a key of `contract.STATUS_TEXT`.
        signed: whether values below zero are meant, which speak against the class.
        fine: whether the maps have the input's resolution and are scattered, as those of guided methods. They are drawn
            on a dark grey photo, and cut off where a few peaks would hide everything else.
    """

    method: str
    layer: str
    values: NDArray[np.float32]
    status: tuple[int, ...]
    signed: bool = False
    fine: bool = False


@dataclass(frozen=True)
class Photo:
    """A Photo holds an explained photo with its classes and maps.

    Attributes:
        name: the name on the page; it need not be unique.
        image_rgb: uint8 [H,W,3], upright, of any size; None for a ready tensor.
        placement: how the model's input lies on the photo.
        classes: the K classes, or objects with their classes; the first one is shown first. There is none where the
            photo has no object.
        maps: one entry for each method and layer, each with the maps of the K classes.
        warnings: sentences on what may be wrong with this photo.
    """

    name: str
    image_rgb: NDArray[np.uint8] | None
    placement: Placement
    classes: tuple[ClassResult, ...]
    maps: tuple[Maps, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A Failure names a photo that could not be explained, and says why."""

    name: str
    error: str


def photo_of(explanations: Sequence[Explanation], n: int = 0, *, name: str | None = None) -> Photo:
    """Make a Photo from explanations by one or several methods, without the objects that the photo does not have.

    Args:
        explanations: explanations of the same photos and the same classes, each by another method.
        n: the index of the photo in the explanations.
        name: the name on the page, by default that in the explanation.

    Raises:
        ValueError: no explanation is given, or they are of different photos or classes.
    """
    if not explanations:
        raise ValueError("no explanation is given")
    first, *others = explanations
    picture = first.pictures[n]
    for other in others:
        if other.pictures[n].name != picture.name or not np.array_equal(other.classes[n], first.classes[n]):
            raise ValueError("the explanations tell of different photos or classes")
    maps = tuple(one for explanation in explanations for one in _maps(explanation, n))
    return Photo(
        name or picture.name, picture.image_rgb, picture.placement, _classes(first, n), maps, _warnings(explanations, n)
    )


def _maps(explanation: Explanation, n: int) -> Iterator[Maps]:
    """Yield the maps of a photo by one method at each layer, after the map fused of all layers where there is one."""
    layers = ([FUSED_LAYER] if explanation.fused is not None else []) + list(explanation.layers)
    for layer in layers:
        there = _there(explanation, n)
        status = tuple(explanation.status_of(layer)[n][there].tolist())
        values = explanation.maps_of(layer)[n][there]
        yield Maps(explanation.method, layer, values, status, explanation.signed, explanation.is_guided)


def _there(explanation: Explanation, n: int) -> NDArray[np.intp]:
    """Return the places, among those that were asked for, of the objects that a photo has; of all classes."""
    count = explanation.classes.shape[1]
    return np.arange(count) if explanation.objects is None else np.flatnonzero(explanation.objects[n] >= 0)


def _classes(explanation: Explanation, n: int) -> tuple[ClassResult, ...]:
    return tuple(_class(explanation, n, k) for k in _there(explanation, n).tolist())


def _class(explanation: Explanation, n: int, k: int) -> ClassResult:
    """Return the k-th class or object of a photo."""
    labels, probabilities, boxes = explanation.labels, explanation.probabilities, explanation.boxes
    box = None if boxes is None else boxes[n, k]
    return ClassResult(
        int(explanation.classes[n, k]),
        None if labels is None else labels[n][k],
        finite(explanation.scores[n, k]),
        None if probabilities is None else finite(probabilities[n, k]),
        None if explanation.objects is None else int(explanation.objects[n, k]),
        None
        if box is None or not np.isfinite(box).all()
        else (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        _against(explanation, n, k),
    )


def _against(explanation: Explanation, n: int, k: int) -> str | None:
    """Return the class that a class is contrasted with, in words, or None."""
    if explanation.against is None or explanation.against[n, k] < 0:
        return None
    label = None if explanation.against_labels is None else explanation.against_labels[n][k]
    return label or f"class {explanation.against[n, k]}"


def _warnings(explanations: Sequence[Explanation], n: int) -> tuple[str, ...]:
    """Return the warnings of this photo, each with its method where there are several methods."""
    several = len(explanations) > 1
    warnings = []
    for explanation in explanations:
        own = printable(f"{explanation.pictures[n].name}, class ")
        for warning in explanation.method_warnings():
            if len(explanation.pictures) == 1 or warning.startswith(own):
                warnings.append(f"{explanation.method}: {warning}" if several else warning)
    return tuple(warnings)


def finite(value: float | None) -> float | None:
    """Return the value as a float, or None if it is not finite, because JSON has neither NaN nor infinity."""
    return float(value) if value is not None and math.isfinite(value) else None
