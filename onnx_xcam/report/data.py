"""What a page of photos shows, as plain data."""

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
    """A class that is explained for a photo. Score and probability are None where unknown or not finite."""

    id: int
    label: str | None
    score: float | None
    probability: float | None


@dataclass(frozen=True)
class Maps:
    """The raw maps of a photo's K classes, by one method at one layer.

    Attributes:
        method, layer: their names.
        values: float32 [K,h,w], neither resized nor scaled; never changed.
        status: of each class, a key of `contract.STATUS_TEXT`.
        signed: values below zero are meant, and speak against the class.
        fine: they have the input's resolution and are scattered, as those of guided methods: drawn on a photo in dark
            grey, and cut off where few peaks would leave nothing else to be seen.
    """

    method: str
    layer: str
    values: NDArray[np.float32]
    status: tuple[int, ...]
    signed: bool = False
    fine: bool = False


@dataclass(frozen=True)
class Photo:
    """An explained photo.

    Attributes:
        name: what it is called; need not be unique.
        image_rgb: uint8 [H,W,3], upright, of any size; None for a ready tensor.
        placement: how the model's input lies on it.
        classes: the K classes, the first one is shown first.
        maps: one entry per method and layer, each for the K classes.
        warnings: sentences on this photo.
    """

    name: str
    image_rgb: NDArray[np.uint8] | None
    placement: Placement
    classes: tuple[ClassResult, ...]
    maps: tuple[Maps, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A photo that could not be explained, and why."""

    name: str
    error: str


def photo_of(explanations: Sequence[Explanation], n: int = 0, *, name: str | None = None) -> Photo:
    """One photo of what `Explainer.explain` gave, by one method or several.

    Args:
        explanations: of the same photos and the same classes, each by another method.
        n: which of their photos.
        name: what the page calls it, if not as the explanation does.

    Raises:
        ValueError: no explanation is given, or they tell of different photos or classes.
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
    """The maps of a photo by one method: those of all layers as one first, where there is one."""
    layers = ([FUSED_LAYER] if explanation.fused is not None else []) + list(explanation.layers)
    for layer in layers:
        status = tuple(explanation.status_of(layer)[n].tolist())
        values = explanation.maps_of(layer)[n]
        yield Maps(explanation.method, layer, values, status, explanation.signed, explanation.is_guided)


def _classes(explanation: Explanation, n: int) -> tuple[ClassResult, ...]:
    ids = explanation.classes[n].tolist()
    labels = [None] * len(ids) if explanation.labels is None else explanation.labels[n]
    unknown = [None] * len(ids)
    scores = explanation.scores[n].tolist()
    probabilities = unknown if explanation.probabilities is None else explanation.probabilities[n].tolist()
    return tuple(
        ClassResult(id_, label, finite(score), finite(p))
        for id_, label, score, p in zip(ids, labels, scores, probabilities, strict=True)
    )


def _warnings(explanations: Sequence[Explanation], n: int) -> tuple[str, ...]:
    """The warnings of this photo; with the method where there are several."""
    several = len(explanations) > 1
    found = []
    for explanation in explanations:
        own = printable(f"{explanation.pictures[n].name}, class ")
        for warning in explanation.warnings():
            if len(explanation.pictures) == 1 or warning.startswith(own):
                found.append(f"{explanation.method}: {warning}" if several else warning)
    return tuple(found)


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has none for it."""
    return value if value is not None and math.isfinite(value) else None
