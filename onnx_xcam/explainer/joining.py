"""This module joins explanations: of the same images by several methods, or of several images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.explainer.explanation import Explanation

T = TypeVar("T", bound=np.generic)


def by_several_methods(explanations: Sequence[Explanation]) -> Explanation:
    """Return the explanation by the first method, after giving it those of the same images by the other methods.

    Args:
        explanations: one for each method; the first is changed.
    """
    first, *others = explanations
    first.by_others = tuple(others)
    return first


def joined(explanations: Sequence[Explanation]) -> Explanation:
    """Return one explanation for the images of several, which were made with the same settings."""
    if len(explanations) == 1:
        return explanations[0]
    by_method = zip(*([one.by(method) for method in one.methods] for one in explanations), strict=True)
    return by_several_methods([_joined(alike) for alike in by_method])


def _joined(explanations: Sequence[Explanation]) -> Explanation:
    """Return one explanation by one method for the images of several."""
    first = explanations[0]
    result = Explanation(
        classes=np.concatenate([one.classes for one in explanations]),
        scores=np.concatenate([one.scores for one in explanations]),
        probabilities=_every(one.probabilities for one in explanations),
        maps=[np.concatenate([one.maps_of(i) for one in explanations]) for i in range(len(first.layers))],
        status=[np.concatenate([one.status_of(i) for one in explanations]) for i in range(len(first.layers))],
        labels=None,
        layers=first.layers,
        pictures=[picture for one in explanations for picture in one.pictures],
        notes=first.notes,
        method=first.method,
        signed=first.signed,
        names=first.names,
        is_number=first.is_number,
        fused=_every(one.fused for one in explanations),
        task=first.task,
        objects=_every(one.objects for one in explanations),
        boxes=_every(one.boxes for one in explanations),
        against=_every(one.against for one in explanations),
    )
    if first.labels is not None:
        result.labels = [row for one in explanations for row in one.labels or []]
        result.against_labels = [row for one in explanations for row in one.against_labels or []] or None
    return result


def _every(parts: Iterable[NDArray[T] | None]) -> NDArray[T] | None:
    """Return arrays joined along the images, or None where they are not there."""
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None
