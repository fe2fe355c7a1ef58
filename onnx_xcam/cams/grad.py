"""This module holds Grad-CAM and Grad-CAM++, whose weights are plain or weighted means of the gradient over space."""

from __future__ import annotations

from typing import Any

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.cams.contributions import Contributions, Weighted


def grad_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """w_k = mean of G_k over space;  map = ReLU( sum_k w_k A_k ).

    Selvaraju et al., "Grad-CAM", ICCV 2017, arXiv 1610.02391, eq. 1 and 2.
    """
    constant = gradients.shape[-1] == 1
    return [Weighted(xp.drop_space(gradients) if constant else xp.space_mean(gradients), activations)]


def grad_cam_plus_plus(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """w_k = sum over space of alpha_k ReLU(G_k), alpha_k = G_k² / (2 G_k² + sum(A_k) G_k³);  map = ReLU(sum_k w_k A_k).

    Chattopadhay et al., "Grad-CAM++", WACV 2018, arXiv 1710.11063, eq. 5 to 7 and 19. Where G_k > 0 its square cancels,

        alpha_k ReLU(G_k) = G_k / (2 + sum(A_k) G_k),

    which is 0 where G_k = 0: no division by zero and no `+ eps`, whatever the size of the gradients. That holds for
    A >= 0, which the paper assumes; on signed maps the divisor may come near zero, and the weight is then large.
    """
    rising = xp.relu(gradients)
    total = xp.space_axis(xp.class_axis(xp.space_sum(activations)))
    each = rising / (total * rising + 2)
    if gradients.shape[-1] == 1:
        return [Weighted(xp.drop_space(each) * xp.positions(activations), activations)]
    return [Weighted(xp.space_sum(each), activations)]
