"""The ways in which XGrad-CAM's shares can be placed, which docs/methods.md compares, and maps to compare them with.

Each placement keeps the share of every channel and sign of A, and is XGrad-CAM where G is constant over space. It says
in proportion to what a share is spread over the positions; a placement of two parts spreads the shares that speak for
the score by the first and those against it by the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One sign of A at a layer, for one score.

    Attributes:
        part: P = max(A, 0) or Q = max(-A, 0), [C,S].
        gradients: G, [C,S].
        is_negative: whether the part is Q, which is subtracted.
    """

    part: Floats
    gradients: Floats
    is_negative: bool

    @property
    def products(self) -> Floats:
        """G P or G Q, [C,S]."""
        return self.gradients * self.part

    @property
    def shares(self) -> Floats:
        """The shares, [C,1]."""
        return self.products.sum(-1, keepdims=True)

    @property
    def speaks_for(self) -> NDArray[np.bool_]:
        """Whether the channel raises the score by this part, [C,1]."""
        return self.shares < 0 if self.is_negative else self.shares > 0

    @property
    def envelope(self) -> Floats:
        """m = sum over the channels of |G|: how sensitive the score is to the place, [1,S]."""
        return np.abs(self.gradients).sum(0, keepdims=True)


Placement: TypeAlias = Callable[[Part], Floats]
"""In proportion to what a share is spread: [C,S], not negative."""


def everywhere(one: Part) -> Floats:
    """XGrad-CAM's own."""
    return one.part


def net(one: Part) -> Floats:
    """Where the channel contributes with the sign of its share."""
    return np.maximum(np.sign(one.shares) * one.products, 0)


def own(one: Part) -> Floats:
    """In proportion to the channel's own contribution of any sign."""
    return np.abs(one.products)


def envelope(one: Part) -> Floats:
    """By one envelope for all channels."""
    return one.envelope * one.part


def root(one: Part) -> Floats:
    """By the root of the envelope."""
    return np.sqrt(one.envelope) * one.part


def in_view(one: Part) -> Floats:
    """As XGrad-CAM, wherever the score depends on anything."""
    return (one.envelope > 0) * one.part


def level(one: Part) -> Floats:
    """As XGrad-CAM where the score is sensitive, fading where it is much less so than on average."""
    m = one.envelope
    return one.part * m / np.where(m > 0, m + m.mean(), 1)


def net_envelope(one: Part) -> Floats:
    """Where the channel contributes with the sign of its share, by the envelope."""
    return net(one) * one.envelope


def net_root(one: Part) -> Floats:
    """Where the channel contributes with the sign of its share, by the root of the envelope."""
    return net(one) * np.sqrt(one.envelope)


def net_squared(one: Part) -> Floats:
    """Where the channel contributes with the sign of its share, once more by its gradient."""
    return net(one) * np.abs(one.gradients)


def lift(one: Part) -> Floats:
    """By how much more evidence of its sign all channels have at the place than XGrad-CAM puts there."""
    spread = _divided(one.part, one.part.sum(-1, keepdims=True))
    ratios = []
    for sign in (1, -1):
        products = np.maximum(sign * one.products, 0)
        there = (products.sum(-1, keepdims=True) * spread).sum(0, keepdims=True)
        ratios.append(_divided(products.sum(0, keepdims=True), there))
    return one.part * np.where(one.shares > 0, *ratios)


PLACEMENTS: Mapping[str, tuple[Placement, Placement]] = {
    "xgrad-cam": (everywhere, everywhere),
    "net": (net, net),
    "own": (own, own),
    "envelope": (envelope, envelope),
    "net, squared": (net_squared, net_squared),
    "net by envelope": (net_envelope, net_envelope),
    "lift": (lift, lift),
    "net / own": (net, own),
    "net / envelope": (net, envelope),
    "net / root": (net, root),
    "net / level": (net, level),
    "net / in view": (net, in_view),
    "net by root / root": (net_root, root),
    "net by envelope / envelope": (net_envelope, envelope),
    "net by envelope / root": (net_envelope, root),
    "net by envelope / level": (net_envelope, level),
    "net by envelope / in view": (net_envelope, in_view),
    "envelope / in view": (envelope, in_view),
}


def placed(activations: Floats, gradients: Floats, name: str) -> Floats:
    """The map before the ReLU by a placement, [S], of A and G [C,S]."""
    total = np.zeros(activations.shape[1:])
    for sign in (1, -1):
        one = Part(np.maximum(sign * activations, 0), gradients, sign < 0)
        positive, negative = PLACEMENTS[name]
        density = np.where(one.speaks_for, positive(one), negative(one))
        total += sign * (_divided(one.shares, density.sum(-1, keepdims=True)) * density).sum(0)
    return total


def _divided(above: Floats, below: Floats) -> Floats:
    """The ratio, 0 where the divisor is 0."""
    return np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0)
