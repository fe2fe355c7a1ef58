"""This module holds local XGrad-CAM, which keeps the shares of XGrad-CAM and places them where the score is sensitive.

XGrad-CAM gives channel k the share s_k = sum_i G_k(i) A_k(i) of the score and spreads it over all positions i in
proportion to A_k. Its axioms fix the shares, not their places. A score that belongs to one object has a gradient near
that object only, and local XGrad-CAM leaves a share there. With A = P - Q as in `cams.xgrad`, for P:

    s_k      = sum_i G_k(i) P_k(i)
    pos_k(i) = max(sign(s_k) G_k(i) P_k(i), 0)
    map(i)   = sum_k  s_k pos_k(i) / sum_j pos_k(j)                  (0 where s_k is 0)

and likewise for Q, which is subtracted; the ReLU follows. A share stands where its channel contributes with the share's
own sign: what cancels within a channel is taken out. No divisor is small beside its numerator, since
sum_j pos_k(j) >= |s_k|. There is no parameter, and two properties hold whatever A and G are:

1. The share of each channel, and of each sign of A, is that of XGrad-CAM, so the errors of both axioms are equal.
2. Where G is constant over space, pos_k is proportional to P_k and the map is that of XGrad-CAM.
"""

from __future__ import annotations

from typing import Any

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.cams.contributions import Contribution, Contributions, Scaled
from onnx_xcam.cams.xgrad import xgrad_cam


def local_xgrad_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """Return local XGrad-CAM's contributions to the map before the ReLU; `cams.methods.Formula` has the arguments."""
    if gradients.shape[-1] == 1:
        return xgrad_cam(xp, activations, gradients, non_negative=non_negative)
    if non_negative:
        return _placed(xp, gradients, activations)
    positive = xp.relu(activations)
    negative = positive - activations
    return [*_placed(xp, gradients, positive), *_placed(xp, gradients, negative, taken_away=True)]


def _placed(xp: Arrays, gradients: Any, part: Any, *, taken_away: bool = False) -> list[Contribution]:
    """Return the shares of a part of A that is not negative, each at the positions where its channel has its sign.

    Of each channel one of the two contributions is zero: the one whose sign is not that of the share.
    """
    products = gradients * xp.class_axis(part)
    raising = xp.relu(products)
    lowering = raising - products
    gain, loss = xp.space_sum(raising), xp.space_sum(lowering)
    share = gain - loss
    return [
        Scaled(xp.relu(share) / xp.safe_divisor(gain), raising, taken_away),
        Scaled(xp.relu(-share) / xp.safe_divisor(loss), lowering, not taken_away),
    ]
