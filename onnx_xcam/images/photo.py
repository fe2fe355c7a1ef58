"""A Photo is what was read from a picture file or handed in, before preprocessing: the file's own depth and values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.display import displayed
from onnx_xcam.images.pixels import ImageRGB

TAKEN_FOR_ALPHA = "its fourth band is not said to be alpha, but is taken for it and laid over white"
"""The remark on an RGB file with a fourth band, which is untrue where the model gets the bands as they are."""


@dataclass(frozen=True)
class Photo:
    """A Photo holds a picture as it was read or handed in, before preprocessing.

    Attributes:
        pixels: [H,W,C] in the file's own type, upright, 0 as black, colours in the order RGB, alpha last.
        has_alpha: whether the last channel is alpha.
        white: the value that its format calls white: 255, 65535, 1.0, or what the file itself states, as a PGM its
            maxval; None where nothing says it.
        window: (low, high), the values that the file itself says are to be seen as black and white, as DICOM does.
        remarks: what was assumed or lost, as parts of sentences about the file.
    """

    pixels: NDArray[Any]
    has_alpha: bool = False
    white: float | None = None
    window: tuple[float, float] | None = None
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Return (height, width)."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def channels(self) -> int:
        """Return the number of channels, alpha included."""
        return int(self.pixels.shape[2])

    @property
    def colours(self) -> int:
        """Return the number of channels without alpha."""
        return self.channels - self.has_alpha

    @property
    def is_of_colours(self) -> bool:
        """Tell whether the channels are grey or RGB, perhaps with alpha, and not other bands."""
        return self.colours in (1, 3)

    def display(
        self,
        show_bands: tuple[int, ...] | None = None,
        window: tuple[float, float] | None = None,
        name: str = "the picture",
    ) -> ImageRGB:
        """Return the picture for drawing, [H,W,3] uint8 RGB; of 8-bit RGB, the pixels themselves and no copy.

        Args:
            show_bands: the one or three channels that are displayed; None for grey or RGB with alpha laid over white,
                and otherwise for the first three bands, or the first of two.
            window: the values that become black and white; None takes those of the file, or else percentiles of deep
                pictures, as `images.display` says.
            name: what messages call the picture.

        Raises:
            PreprocessError: the picture has not so many channels.
        """
        shown, has_alpha = self.pixels, self.has_alpha
        if show_bands is not None:
            self.check_bands("show_bands", show_bands, name)
            shown, has_alpha = self.bands(show_bands), False
        elif not self.is_of_colours:
            shown, has_alpha = self.pixels[..., : 3 if self.colours > 3 else 1], False
        range_ = window or self.window or self._stated_range()
        return displayed(shown, has_alpha, self.is_of_colours, range_, self.white)

    def _stated_range(self) -> tuple[float, float] | None:
        """Return black and white of 8-bit pixels whose file states another white than 255, else None."""
        return (0.0, self.white) if self.pixels.dtype == np.uint8 and self.white not in (None, 255.0) else None

    def bands(self, bands: tuple[int, ...]) -> NDArray[Any]:
        """Return these channels, [H,W,len(bands)], in the file's own type; without a copy where they are all."""
        if bands == tuple(range(self.channels)):
            return self.pixels
        return np.ascontiguousarray(self.pixels[..., list(bands)])

    def check_bands(self, setting: str, bands: tuple[int, ...], name: str = "the picture") -> None:
        """Make sure that the picture has these channels.

        Raises:
            PreprocessError: it has not so many; the message names the setting that says them.
        """
        if max(bands) >= self.channels:
            raise PreprocessError(
                f"{name} has {self.channels} channel{'s' if self.channels > 1 else ''}, but {setting} in the "
                f"preprocessing says channel {max(bands)}, counted from 0"
            )
