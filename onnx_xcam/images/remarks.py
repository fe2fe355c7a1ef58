"""This module makes the remarks on picture files with values that do not become 0..255 as a user would expect."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_LITTLE = 8
"""Values that end below an eighth of their type's range hardly use that range from black to white."""
READY = "hand in a ready tensor (Python: explain(array))"
"""The advice, as a part of a sentence, for pictures that lose too much when they become 0..255."""


@dataclass(frozen=True)
class FileValues:
    """A FileValues describes the values that a picture file holds.

    Attributes:
        dtype: the type of the values.
        low, high: the smallest and the largest finite value of the colours.
    """

    dtype: np.dtype[Any]
    low: float
    high: float

    @classmethod
    def of(cls, pixels: npt.NDArray[Any]) -> FileValues:
        """Describe the values of decoded pixels, [H,W] or [H,W,1..4]; the alpha of four channels is left out."""
        colours = pixels[..., :3] if pixels.ndim == 3 and pixels.shape[2] == 4 else pixels
        if pixels.dtype.kind == "f":
            finite = colours[np.isfinite(colours)]
            colours = finite if finite.size else np.zeros(1, pixels.dtype)
        return cls(pixels.dtype, float(colours.min()), float(colours.max()))

    @property
    def is_deep(self) -> bool:
        """Tell whether the values have more than the 8 bits of an ordinary picture."""
        return self.dtype.itemsize > 1

    @property
    def white(self) -> float:
        """Return the value that becomes 255; `read_image` states the rules."""
        return max(1.0, self.high) if self.dtype.kind == "f" else float(np.iinfo(self.dtype).max)

    @property
    def _advice(self) -> str:
        """Return what the user can do, as a part of a sentence."""
        span = "0 to 1" if self.dtype.kind == "f" else f"0 to {self.white:g}"
        return f"scale the file's values to {span}, or {READY}"

    def remark(self) -> str | None:
        """Return what is lost when the values become 0..255, as a part of a sentence; None for nothing unexpected."""
        span = f"its {self.dtype} values go from {self.low:g} to {self.high:g}"
        if self.low < 0:
            return f"{span}: those below 0 become black, and {self.white:g} white; {self._advice}"
        if self.dtype.kind == "f" and self.high > 1:
            return f"{span}: they are divided by {self.high:g}, the picture's own largest; {self._advice}"
        if self.dtype.kind != "f" and self.is_deep and 0 < self.high < self.white / _LITTLE:
            return f"{span}, but {self.white:g} is taken for white, so hardly any contrast is left; {self._advice}"
        return None

    def remark_for_integers(self, wanted: np.dtype[Any]) -> str | None:
        """Return what an integer input of 16 bits or more loses of values of more than 8 bits; None for nothing."""
        if not self.is_deep or wanted.kind not in "iu" or wanted.itemsize == 1:
            return None
        return (
            f"its {self.dtype} values, {self.low:g} to {self.high:g}, become 0 to 255 before the model's {wanted} "
            f"input gets them; for the file's own values {READY}"
        )
