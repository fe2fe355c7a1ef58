"""This module measures how far a map is from the two axioms of XGrad-CAM (Fu et al. 2020, arXiv 2008.02312).

An error of 0 means that the axiom holds. share_k is what channel k adds to the sum of the map before the ReLU, and
S(without k) is the score where channel k of the layer is 0:

    conservation error  =  |S - sum_k share_k|  /  sum_k |share_k|
    gap                 =  |S - sum_k share_k|  /  |S|
    sensitivity error   =  sum_k |S - S(without k) - share_k|  /  sum_k |S - S(without k)|

The numerators are the paper's; the denominators are our choice, see docs/axioms.md. Some methods leave open how large
their weights are (Grad-CAM++, Ablation-CAM): for these the errors are also given for shares that are scaled by one
number for each image and class, by which the sensitivity error is least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ShapeError, UnsupportedOpError
from onnx_xcam.explainer.recording import CutRecord, LayerRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AxiomErrors:
    """An AxiomErrors holds a method's errors for K classes, each float64 [K].

    An error is infinite where its divisor is 0 (shares, or drops of the score, that are all 0), and not finite where
    the score is not.

    Attributes:
        conservation: the conservation error.
        gap: the gap; unlike the conservation error it does not shrink where shares are large and cancel.
        unexplained: the conservation error of the score less what biases and paths round the layer add, which is the
            method's own part of the error. None where the additions are not known.
        sensitivity: the sensitivity error; shares of 0 have an error of 1. None where no channel was ablated, as are
            the fields that follow.
        scale: the factor of the shares by which the sensitivity error is least; not negative.
        scaled_sensitivity: the sensitivity error of the scaled shares.
        scaled_conservation: the conservation error of the scaled shares.
    """

    conservation: Floats
    gap: Floats
    unexplained: Floats | None = None
    sensitivity: Floats | None = None
    scale: Floats | None = None
    scaled_sensitivity: Floats | None = None
    scaled_conservation: Floats | None = None


@np.errstate(invalid="ignore")
def axiom_errors(
    scores: NDArray[np.floating],
    shares: NDArray[np.floating],
    ablated: NDArray[np.floating] | None = None,
    beside: NDArray[np.floating] | None = None,
) -> AxiomErrors:
    """Return the errors of a method's shares.

    Args:
        scores: the scores S, [K].
        shares: the shares of the channels, [K,C].
        ablated: the scores without each channel, [K,C].
        beside: what the biases behind the layer and the paths round it add to the scores, [K].
    """
    s, parts = scores.astype(np.float64), shares.astype(np.float64)
    conservation, gap = conservation_error(s, parts), _ratio(np.abs(s - parts.sum(1)), np.abs(s))
    unexplained = None if beside is None else conservation_error(s - beside, parts)
    if ablated is None:
        return AxiomErrors(conservation, gap, unexplained)
    drops = s[:, None] - ablated.astype(np.float64)
    scale = np.array([best_scale(*pair) for pair in zip(drops, parts, strict=True)])
    scaled = scale[:, None] * parts
    return AxiomErrors(
        conservation,
        gap,
        unexplained,
        sensitivity_error(drops, parts),
        scale,
        sensitivity_error(drops, scaled),
        conservation_error(s, scaled),
    )


def errors_of(record: LayerRecord | CutRecord, method: str) -> AxiomErrors:
    """Return the errors of a method at a recorded layer, which must have been recorded with ablations.

    The channels of a cut are those of all its layers; while one is left out, the other layers stay as they are, since
    its share does not count what it does by way of them. What is added beside a cut is not known.

    Raises:
        XcamError: the recording lacks what is needed, or the part of the model behind the layer cannot be run.
    """
    if isinstance(record, CutRecord):
        return axiom_errors(record.scores, record.shares(method), record.ablated)
    return axiom_errors(record.scores, record.shares(method), record.ablated, beside(record))


def beside(record: LayerRecord) -> Floats | None:
    """Return what biases behind a layer and paths round it add to the scores, [K].

    None where it is not known: each rounding of a quantised model adds its own part, and an operator may have no rule.

    Raises:
        XcamError: as `LayerRecord.balance`.
    """
    try:
        balance = record.balance
    except (UnsupportedOpError, ShapeError):
        return None
    return balance.bias + balance.side


def conservation_error(scores: Floats, shares: Floats) -> Floats:
    """Return |S - sum of the shares| / sum of |shares|, [K], from scores [K] and shares [K,C]."""
    return _ratio(np.abs(scores - shares.sum(1)), np.abs(shares).sum(1))


def sensitivity_error(drops: Floats, shares: Floats) -> Floats:
    """Return sum |drop - share| / sum |drop|, [K], from shares and drops of the score by channel, [K,C]."""
    return _ratio(np.abs(drops - shares).sum(1), np.abs(drops).sum(1))


def best_scale(drops: Floats, shares: Floats) -> float:
    """Return the number t >= 0 for which sum |drop - t share| is least, from drops [C] and shares [C].

    The sum is convex and bends where t = drop / share, so it is least at the median of these, weighted by |share|.
    """
    used = shares != 0
    if not used.any():
        return 0.0
    ratios, weights = drops[used] / shares[used], np.abs(shares[used])
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order])
    return max(0.0, float(ratios[order][np.searchsorted(reached, reached[-1] / 2)]))


def _ratio(above: Floats, below: Floats) -> Floats:
    """Divide elementwise; the ratio is 0 where both are 0, and infinite where only the divisor is 0."""
    ratio = np.divide(above, below, out=np.full_like(above, np.inf), where=below > 0)
    return np.where((above == 0) & (below == 0), 0.0, ratio)
