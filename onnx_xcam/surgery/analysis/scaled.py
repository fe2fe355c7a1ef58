"""A Scaled says how the values of a tensor follow from a picture, as long as they are only moved and scaled.

v[c] = factor[c] x[source[c]] + shift[c]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_CHANNELS = 64
"""Pictures of more channels are not followed."""


@dataclass(frozen=True)
class Scaled:
    """A Scaled says how the values of a tensor follow from the picture.

    Attributes:
        axis: the axis of the channels; None where it is lost, or the tensor holds one channel without an axis. Then
            factor and shift have one element.
        factor, shift: v = factor x + shift, for each channel of the tensor, float64 [C].
        source: the channel of the picture that each channel comes from, int [C]; None where that is lost.
        limits: the values of x beyond which values are cut off.
        quantised: scale and zero point of the quantiser that made the tensor's integers of v; None for v itself.
        calibrated: whether factor and shift are those of a DequantizeLinear at the input.
        learned: whether factor and shift are the statistics of a BatchNormalization, without its weights.
        before: how the values were before the last operator that changed them; None at the input.
    """

    axis: int | None
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]
    source: NDArray[np.int64] | None
    limits: tuple[float, float] = (-inf, inf)
    quantised: tuple[float, float] | None = None
    calibrated: bool = False
    learned: bool = False
    before: Scaled | None = None

    @property
    def steps(self) -> Iterator[Scaled]:
        """Yield this and all that came before it, the last first."""
        at: Scaled | None = self
        while at is not None:
            yield at
            at = at.before

    @property
    def is_uniform(self) -> bool:
        """Tell whether all channels are scaled alike."""
        return bool((self.factor == self.factor[0]).all() and (self.shift == self.shift[0]).all())

    def without_axis(self) -> Scaled | None:
        """Return this for a tensor whose axis of channels is lost; None unless all channels are scaled alike."""
        if not self.is_uniform:
            return None
        source = self.source if self.source is not None and len(self.source) == 1 else None
        return replace(self, axis=None, factor=self.factor[:1], shift=self.shift[:1], source=source)

    def picked(self, indices: Sequence[int] | NDArray[np.int64]) -> Scaled:
        """Return this for a tensor that has some of the channels, in that order."""
        at = np.asarray(indices, np.int64)
        source = None if self.source is None else self.source[at]
        return replace(self, factor=self.factor[at], shift=self.shift[at], source=source)

    def changed(self, factor: NDArray[np.float64], shift: NDArray[np.float64], **others: Any) -> Scaled:
        """Return this after an operator that changed the values, with the factor and the shift of both together."""
        return replace(self, factor=factor, shift=shift, before=self, **others)
