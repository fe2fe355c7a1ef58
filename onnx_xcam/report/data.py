"""What a page of photos shows, as plain data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.explainer import Explanation
from onnx_xcam.explainer.explanation import FUSED_LAYER
from onnx_xcam.images.place import Placement


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
    """

    method: str
    layer: str
    values: NDArray[np.float32]
    status: tuple[int, ...]
    signed: bool = False


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


def photo_of(explanations: Mapping[str, Explanation], n: int = 0, *, name: str | None = None) -> Photo:
    """One photo of what `Explainer.explain` gave, by one method or several.

    Args:
        explanations: by the method's name; of the same photos and the same classes.
        n: which of their photos.
        name: what the page calls it, if not as the explanation does.

    Raises:
        ValueError: no explanation is given, or they tell of different photos or classes.
    """
    if not explanations:
        raise ValueError("no explanation is given")
    first, *others = explanations.values()
    picture = first.pictures[n]
    for other in others:
        if other.pictures[n].name != picture.name or not np.array_equal(other.classes[n], first.classes[n]):
            raise ValueError("the explanations tell of different photos or classes")
    maps = tuple(one for method, explanation in explanations.items() for one in _maps(method, explanation, n))
    return Photo(
        name or picture.name, picture.image_rgb, picture.placement, _classes(first, n), maps, _warnings(explanations, n)
    )


def _maps(method: str, explanation: Explanation, n: int) -> Iterator[Maps]:
    """The maps of a photo by one method: those of all layers as one first, where there is one."""
    layers = ([FUSED_LAYER] if explanation.fused is not None else []) + list(explanation.layers)
    for layer in layers:
        status = tuple(explanation.status_of(layer)[n].tolist())
        yield Maps(method, layer, explanation.maps_of(layer)[n], status, explanation.signed)


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


def _warnings(explanations: Mapping[str, Explanation], n: int) -> tuple[str, ...]:
    """The warnings of this photo; with the method where there are several."""
    several = len(explanations) > 1
    found = []
    for method, explanation in explanations.items():
        own = f"{explanation.pictures[n].name}, class "
        for warning in explanation.warnings():
            if len(explanation.pictures) == 1 or warning.startswith(own):
                found.append(f"{method}: {warning}" if several else warning)
    return tuple(found)


def finite(value: float | None) -> float | None:
    """The value, or None where JSON has none for it."""
    return value if value is not None and math.isfinite(value) else None
