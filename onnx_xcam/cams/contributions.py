"""This module holds the contributions of the channels of a layer, which add up to a CAM map before its ReLU.

The sum of a channel's contribution over the positions is what the axioms call the channel's share of the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from onnx_xcam.cams.arrays import Arrays


@dataclass(frozen=True)
class Weighted:
    """In a Weighted contribution, channel k adds `weights_k part_k` at each position, or takes it away.

    Attributes:
        weights: `[N, K, C]`.
        part: the activations or their positive or negative part, `[N, C, S]`.
        taken_away: whether the contribution is subtracted.
    """

    weights: Any
    part: Any
    taken_away: bool = False

    def map(self, xp: Arrays) -> Any:
        """Return the contribution summed over the channels, `[N, K, S]`."""
        return self.weights @ self.part

    def shares(self, xp: Arrays) -> Any:
        """Return the contribution summed over the positions, `[N, K, C]`."""
        return self.weights * xp.class_axis(xp.space_sum(self.part))


@dataclass(frozen=True)
class Pointwise:
    """In a Pointwise contribution, channel k adds `products_k` at each position, or takes it away.

    Attributes:
        products: `[N, K, C, S]`.
        taken_away: whether the contribution is subtracted.
    """

    products: Any
    taken_away: bool = False

    def map(self, xp: Arrays) -> Any:
        """Return the contribution summed over the channels, `[N, K, S]`."""
        return xp.channel_sum(self.products)

    def shares(self, xp: Arrays) -> Any:
        """Return the contribution summed over the positions, `[N, K, C]`."""
        return xp.space_sum(self.products)


@dataclass(frozen=True)
class FieldWeighted:
    """In a FieldWeighted contribution, channel k adds `weights_k part_k field` at each position, or takes it away.

    Attributes:
        weights: `[N, K, C]`.
        part: the size of the activations or of their positive or negative part, `[N, C, S]`.
        field: how much each position counts, the same for all channels, `[N, K, S]`.
        taken_away: whether the contribution is subtracted.
    """

    weights: Any
    part: Any
    field: Any
    taken_away: bool = False

    def map(self, xp: Arrays) -> Any:
        """Return the contribution summed over the channels, `[N, K, S]`."""
        return self.field * (self.weights @ self.part)

    def shares(self, xp: Arrays) -> Any:
        """Return the contribution summed over the positions, `[N, K, C]`."""
        return self.weights * (self.field @ xp.swapped(self.part))


@dataclass(frozen=True)
class FieldPointwise:
    """In a FieldPointwise contribution, channel k adds `weights_k products_k field` at each position, or takes it away.

    Attributes:
        weights: `[N, K, C]`.
        products: `[N, K, C, S]`.
        field: how much each position counts, the same for all channels, `[N, K, S]`.
        taken_away: whether the contribution is subtracted.
    """

    weights: Any
    products: Any
    field: Any
    taken_away: bool = False

    def map(self, xp: Arrays) -> Any:
        """Return the contribution summed over the channels, `[N, K, S]`."""
        return self.field * xp.channel_product(self.weights, self.products)

    def shares(self, xp: Arrays) -> Any:
        """Return the contribution summed over the positions, `[N, K, C]`."""
        return self.weights * xp.field_product(self.products, self.field)


Contribution: TypeAlias = Weighted | Pointwise | FieldWeighted | FieldPointwise
Contributions: TypeAlias = Sequence[Contribution]


def map_of(xp: Arrays, contributions: Contributions) -> Any:
    """Return the map before the ReLU, `[N, K, S]`."""
    return _total([(one.map(xp), one.taken_away) for one in contributions])


def shares_of(xp: Arrays, contributions: Contributions) -> Any:
    """Return what each channel contributes to the sum of the map before the ReLU, `[N, K, C]`."""
    return _total([(one.shares(xp), one.taken_away) for one in contributions])


def _total(signed: Sequence[tuple[Any, bool]]) -> Any:
    """Add up the values, and subtract those that are marked as taken away."""
    (total, _), *others = signed  # the first one is never taken away
    for value, taken_away in others:
        total = total - value if taken_away else total + value
    return total
