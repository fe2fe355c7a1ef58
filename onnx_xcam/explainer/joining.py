"""This module joins explanations: of the same images by several methods, or of several images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_xcam.explainer.explanation import Explanation


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
    probabilities = [one.probabilities for one in explanations if one.probabilities is not None]
    fused = [one.fused for one in explanations if one.fused is not None]
    result = Explanation(
        classes=np.concatenate([one.classes for one in explanations]),
        scores=np.concatenate([one.scores for one in explanations]),
        probabilities=np.concatenate(probabilities) if probabilities else None,
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
        fused=np.concatenate(fused) if fused else None,
    )
    if first.labels is not None:
        result.labels = [row for one in explanations for row in one.labels or []]
    return result
