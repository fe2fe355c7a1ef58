"""How far a map is from the two axioms of XGrad-CAM (Fu et al. 2020, arXiv 2008.02312), from 0 on.

With share_k what channel k adds to the sum of the map before the ReLU, and S(without k) the score where channel k of
the layer is 0:

    conservation error  =  |S - sum_k share_k|  /  sum_k |share_k|
    gap                 =  |S - sum_k share_k|  /  |S|
    sensitivity error   =  sum_k |S - S(without k) - share_k|  /  sum_k |S - S(without k)|

The numerators are the paper's; the denominators are our choice, see docs/axioms.md. Some methods leave open how large
their weights are (Grad-CAM++, Ablation-CAM): for these the errors are also told for shares times the one number of each
image and class by which the sensitivity error is least.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ShapeError, UnsupportedOpError
from onnx_xcam.explainer.recording import LayerRecord

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AxiomErrors:
    """The errors of K classes, each float64 [K].

    An error is infinite where it is a number divided by nothing: shares, or drops of the score, that are all 0; it is
    not finite where the score is not.

    Attributes:
        conservation: as above.
        gap: as above; unlike the conservation error it does not shrink where shares are large and cancel.
        unexplained: the same with the score less what biases and ways round the layer add: what the method itself
            owes. None where these are not known.
        sensitivity: as above; 1 is what shares of 0 have. None, as what follows, where no channel was left out.
        scale: the number by which the sensitivity error is least; not negative.
        scaled_sensitivity: the sensitivity error of the shares times that number.
        scaled_conservation: their conservation error.
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
    """The errors of a method's shares.

    Args:
        scores: S, [K].
        shares: [K,C].
        ablated: the scores without each channel, [K,C].
        beside: what the biases behind the layer and the ways round it add to the scores, [K].
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


def errors_of(record: LayerRecord, method: str) -> AxiomErrors:
    """The errors of a method at a recorded layer, which must have been recorded for ablations.

    Raises:
        XcamError: the recording has not what is needed, or the part behind a layer cannot be run.
    """
    return axiom_errors(record.scores, record.shares(method), record.ablated, beside(record))


def beside(record: LayerRecord) -> Floats | None:
    """What biases behind a layer and ways round it add to the scores, [K].

    None where it cannot be told: each rounding of a quantised model adds its own, and an operator may have no rule.

    Raises:
        XcamError: as `LayerRecord.balance`.
    """
    try:
        balance = record.balance
    except (UnsupportedOpError, ShapeError):
        return None
    return balance.bias + balance.side


def conservation_error(scores: Floats, shares: Floats) -> Floats:
    """|S - sum of the shares| / sum of |shares|: [K] of [K] and [K,C]."""
    return _ratio(np.abs(scores - shares.sum(1)), np.abs(shares).sum(1))


def sensitivity_error(drops: Floats, shares: Floats) -> Floats:
    """Sum of |drop - share| / sum of |drop|: [K] of [K,C], the drop of the score without each channel, and [K,C]."""
    return _ratio(np.abs(drops - shares).sum(1), np.abs(drops).sum(1))


def best_scale(drops: Floats, shares: Floats) -> float:
    """The number t, not negative, by which sum |drop - t share| is least, of [C] and [C].

    The sum is convex and bends where t = drop / share: it is least at the median of these, weighted by |share|.
    """
    used = shares != 0
    if not used.any():
        return 0.0
    ratios, weights = drops[used] / shares[used], np.abs(shares[used])
    order = np.argsort(ratios)
    reached = np.cumsum(weights[order])
    return max(0.0, float(ratios[order][np.searchsorted(reached, reached[-1] / 2)]))


def _ratio(above: Floats, below: Floats) -> Floats:
    """Their ratio; 0 where both are 0, infinite where only the divisor is."""
    found = np.divide(above, below, out=np.full_like(above, np.inf), where=below > 0)
    return np.where((above == 0) & (below == 0), 0.0, found)
