"""This module holds local XGrad-CAM, which keeps the shares of XGrad-CAM and places them where the score is sensitive.

XGrad-CAM gives channel k the share sum_i G_k(i) A_k(i) of the score and spreads it over all positions i in proportion
to A_k. Its axioms fix the shares, not their places, and the gradient of a score that belongs to one object is zero away
from it. Local XGrad-CAM places the shares within the score's field of view, which is the same for all channels:

    m(i) = sum_k |G_k(i)|

Let X be P = max(A, 0) or -Q = -max(-A, 0), the two parts of A as in `cams.xgrad`, and s_k = sum_i G_k(i) X_k(i):

    s_k > 0:  s_k is spread in proportion to  m(i) max(G_k(i) X_k(i), 0)
    s_k < 0:  s_k is spread in proportion to  sqrt(m(i)) |X_k(i)|

The map is the ReLU of the sum over the channels and both parts. What speaks for the score stands where its channel
does, most where the score is most sensitive; what speaks against it is spread widely over the field of view, between
XGrad-CAM's way and m itself. An object has most of both, and placed alike they would cancel there: docs/methods.md has
the alternatives that were measured. There is no parameter, and two properties hold whatever A and G are:

1. The share of each channel, and of each sign of A, is that of XGrad-CAM, so the errors of both axioms are equal.
2. Where G is constant over space, both rules are proportional to |X_k|, and the map is that of XGrad-CAM.
"""

from __future__ import annotations

from typing import Any

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.cams.contributions import Contribution, Contributions, FieldPointwise, FieldWeighted
from onnx_xcam.cams.xgrad import xgrad_cam


def local_xgrad_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """Return local XGrad-CAM's contributions to the map before the ReLU; `cams.methods.Formula` has the arguments."""
    if gradients.shape[-1] == 1:
        return xgrad_cam(xp, activations, gradients, non_negative=non_negative)
    view = xp.channel_sum(xp.absolute(gradients))
    view = view / xp.space_axis(xp.safe_divisor(xp.space_sum(view)))  # tiny gradients have no products that underflow
    if non_negative:
        return _placed(xp, gradients, activations, activations, view)
    positive = xp.relu(activations)
    negative = positive - activations
    return [
        *_placed(xp, gradients, positive, positive, view),
        *_placed(xp, gradients, activations - positive, negative, view),
    ]


def _placed(xp: Arrays, gradients: Any, part: Any, size: Any, view: Any) -> list[Contribution]:
    """Return the shares of one part of A, those for the score and those against it; of each channel one is zero.

    Args:
        xp: the array library that the other arguments belong to.
        gradients: G, `[N, K, C, S]`.
        part: X, of one sign, `[N, C, S]`.
        size: |X|, `[N, C, S]`.
        view: m, `[N, K, S]`, scaled.
    """
    products = gradients * xp.class_axis(part)
    shares = xp.space_sum(products)
    raising, wide = xp.relu(products), xp.square_root(view)
    return [
        FieldPointwise(xp.relu(shares) / xp.safe_divisor(xp.field_product(raising, view)), raising, view),
        FieldWeighted(xp.relu(-shares) / xp.safe_divisor(wide @ xp.swapped(size)), size, wide, taken_away=True),
    ]
