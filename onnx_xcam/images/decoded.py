"""A Decoded is a picture file as a decoder hands it on, not turned upright."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Decoded:
    """A Decoded is a picture file as it is decoded, not turned upright.

    Attributes:
        pixels: [H,W] or [H,W,C] of any type.
        orientation: the EXIF orientation (1..8) that is still to be undone.
        has_alpha: whether the last channel is alpha.
        white_is_zero: whether 0 is white, as in the file, since the values have not been inverted.
        is_bgr: whether three or four channels stand in the order of OpenCV.
        white: the number that the format calls white; None where it is the largest of the type.
        remarks: what was assumed or lost, as parts of sentences about the file.
    """

    pixels: NDArray[Any]
    orientation: int
    has_alpha: bool
    white_is_zero: bool
    is_bgr: bool
    remarks: tuple[str, ...]
    white: int | None = None

    def with_black_at_zero(self) -> NDArray[Any]:
        """Return the pixels with 0 as black; integers of which 0 is white are inverted within their bits."""
        if not self.white_is_zero:
            return self.pixels
        if self.white is not None:
            return (self.white - self.pixels).astype(self.pixels.dtype)
        if self.pixels.dtype.kind != "f":
            inverted: NDArray[Any] = np.invert(self.pixels)
            return inverted
        white = max(1.0, float(np.nanmax(self.pixels)))
        return (white - self.pixels).astype(self.pixels.dtype)
