"""XGrad-CAM (Fu et al., "Axiom-based Grad-CAM", BMVC 2020, arXiv 2008.02312), for feature maps of any sign.

The paper's weights, w_k = sum(G_k A_k) / sum(A_k), assume A >= 0: on signed maps the divisor passes through zero. Here
A is split into two non-negative maps, A = P - Q with P = max(A, 0) and Q = max(-A, 0), each with its own weights:

    w+_k = sum(G_k P_k) / sum(P_k),   w-_k = sum(G_k Q_k) / sum(Q_k)     (0 where the sum is 0)
    map  = ReLU( sum_k  w+_k P_k - w-_k Q_k )

Every weight is an average of G. Both axioms hold part by part, and before the ReLU the map sums to sum(G A). For A >= 0
this is the paper's formula; where G is constant over space every weight is G itself.
"""

from __future__ import annotations

from typing import Any, Protocol


class Arrays(Protocol):
    """What the formula needs of an array library."""

    def relu(self, x: Any) -> Any:
        """max(x, 0)."""

    def space_sum(self, x: Any) -> Any:
        """The sum over the last axis, which is dropped."""

    def class_axis(self, x: Any) -> Any:
        """`[N, C, ...]` as `[N, 1, C, ...]`."""

    def drop_space(self, x: Any) -> Any:
        """`[N, K, C, 1]` as `[N, K, C]`."""

    def safe_divisor(self, x: Any) -> Any:
        """x where it is above 0, else 1."""


def xgrad_cam(xp: Arrays, activations: Any, gradients: Any, *, non_negative: bool) -> Any:
    """The map before the ReLU.

    Args:
        xp: the array library that the other arguments belong to.
        activations: A, `[N, C, S]` with S = h w.
        gradients: G, `[N, K, C, S]`, or `[N, K, C, 1]` if it is constant over space.
        non_negative: whether A is known to hold no negative value.

    Returns:
        `[N, K, S]`.
    """
    if gradients.shape[-1] == 1:
        return xp.drop_space(gradients) @ activations
    if non_negative:
        return _share(xp, activations, gradients)
    positive = xp.relu(activations)
    return _share(xp, positive, gradients) - _share(xp, positive - activations, gradients)


def _share(xp: Arrays, part: Any, gradients: Any) -> Any:
    """sum_k w_k part_k with w_k = sum(G_k part_k) / sum(part_k), for a non-negative part."""
    products = xp.space_sum(gradients * xp.class_axis(part))
    return (products / xp.class_axis(xp.safe_divisor(xp.space_sum(part)))) @ part
