"""This module holds the methods that weigh each position by itself: HiResCAM, LayerCAM and element-wise Grad-CAM."""

from __future__ import annotations

from typing import Any

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.cams.contributions import Contribution, Contributions, Pointwise, Weighted


def hires_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """map = ReLU( sum_k G_k A_k ), position by position.

    Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv 2011.08891, eq. 4.
    """
    return [_products(xp, gradients, activations)]


def layer_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """map = ReLU( sum_k ReLU(G_k) A_k ).

    Jiang et al., "LayerCAM", IEEE Transactions on Image Processing 30, 2021, eq. 6 and 7.
    """
    return [_products(xp, xp.relu(gradients), activations)]


def elementwise_grad_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Contributions:
    """map = sum_k ReLU( G_k A_k ).

    This is `GradCAMElementWise` of pytorch-grad-cam; for A >= 0 it is LayerCAM.
    """
    if gradients.shape[-1] == 1 and not non_negative:
        # ReLU(G A) = ReLU(G) P + ReLU(-G) Q with P = ReLU(A), Q = ReLU(-A): no [N, K, C, S] array of products is held.
        rising, positive = xp.relu(gradients), xp.relu(activations)
        falling, negative = rising - gradients, positive - activations
        return [_products(xp, rising, positive), _products(xp, falling, negative)]
    if gradients.shape[-1] == 1:
        return layer_cam(xp, activations, gradients, non_negative=non_negative)
    return [Pointwise(xp.relu(gradients * xp.class_axis(activations)))]


def _products(xp: Arrays, gradients: Any, part: Any) -> Contribution:
    """Return G_k part_k at each position as a contribution, weighted where the gradient is constant over space."""
    if gradients.shape[-1] == 1:
        return Weighted(xp.drop_space(gradients), part)
    return Pointwise(gradients * xp.class_axis(part))
