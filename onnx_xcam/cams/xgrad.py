"""This module holds XGrad-CAM, extended to feature maps of any sign.

The weights of the paper (Fu et al., "Axiom-based Grad-CAM", BMVC 2020, arXiv 2008.02312), sum(G_k A_k) / sum(A_k),
assume A >= 0: on signed maps the divisor passes through zero. Here A is split into two non-negative maps, A = P - Q
with P = max(A, 0) and Q = max(-A, 0), each with its own weights:

    w+_k = sum(G_k P_k) / sum(P_k),   w-_k = sum(G_k Q_k) / sum(Q_k)     (0 where the sum is 0)
    map  = ReLU( sum_k  w+_k P_k - w-_k Q_k )

Every weight is an average of G. Both axioms hold part by part, and before the ReLU the map sums to sum(G A). For A >= 0
this is the paper's formula; where G is constant over space every weight is G itself.
"""

from __future__ import annotations

from typing import Any

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.cams.contributions import Contributions, Weighted


def xgrad_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """Return XGrad-CAM's contributions to the map before the ReLU; `cams.methods.Formula` explains the arguments."""
    if gradients.shape[-1] == 1:
        return [Weighted(xp.drop_space(gradients), activations)]
    if non_negative:
        return [Weighted(_averages(xp, gradients, activations), activations)]
    positive = xp.relu(activations)
    negative = positive - activations
    return [
        Weighted(_averages(xp, gradients, positive), positive),
        Weighted(_averages(xp, gradients, negative), negative, taken_away=True),
    ]


def _averages(xp: Arrays, gradients: Any, part: Any) -> Any:
    """Return sum(G_k part_k) / sum(part_k), `[N, K, C]`, for a non-negative part."""
    products = xp.space_sum(gradients * xp.class_axis(part))
    return products / xp.class_axis(xp.safe_divisor(xp.space_sum(part)))
