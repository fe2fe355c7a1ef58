"""This module says which values of a file become the pixels 0 and 255, and remarks on files that do not fit that.

    pixel = (value - low) * 255 / (high - low)

`window` states low and high, and what lies outside is cut off; `white` states high alone, with low = 0, and nothing is
cut. Where neither is stated, the window that the file itself states counts, and else what its type calls white: 255 for
8 bits, 65535 for 16, 1.0 for floats.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_xcam.images.display import type_white
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.photo import TAKEN_FOR_ALPHA, Photo
from onnx_xcam.images.pixels import ImageRGB
from onnx_xcam.images.preprocess import Preprocess

_LITTLE = 8
"""Values that end below an eighth of their type's range hardly use that range from black to white."""
_ADVICE = "state white (the value that stands for pixel 255) or window: [low, high] in the preprocessing"


class Levels(NamedTuple):
    """Levels say which values of a file become the pixels 0 and 255.

    Attributes:
        low, high: the values that become pixel 0 and pixel 255.
        cut: whether values outside are cut off.
    """

    low: float
    high: float
    cut: bool

    @classmethod
    def of(cls, photo: Photo, preprocess: Preprocess) -> Levels:
        """Return the levels of a photo under a preprocessing."""
        if preprocess.window is not None:
            return cls(*preprocess.window, True)
        if preprocess.white is not None:
            return cls(0.0, preprocess.white, False)
        if photo.window is not None:
            return cls(*photo.window, True)
        return cls(0.0, photo.white or type_white(photo.pixels.dtype), False)

    def keep(self, dtype: np.dtype[Any]) -> bool:
        """Tell whether values of this type are pixels 0 to 255 as they are."""
        return dtype == np.uint8 and (self.low, self.high) == (0.0, 255.0)

    def pixels(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return values of a file as pixels; float64, neither cut nor rounded."""
        shifted: npt.NDArray[np.float64] = values.astype(np.float64)
        if self.low:
            shifted -= self.low
        shifted *= 255.0 / (self.high - self.low)
        return shifted


def remarks_for(photo: Photo, preprocess: Preprocess, spec: InputSpec) -> tuple[str, ...]:
    """Return what a user should know of a picture that is fed to an input, as parts of sentences about the file."""
    takes_all = preprocess.bands is not None or not spec.takes_photos
    own = tuple(remark for remark in photo.remarks if not (takes_all and remark == TAKEN_FOR_ALPHA))
    return own + _value_remarks(photo, preprocess, spec)


def shown(photo: Photo, preprocess: Preprocess, spec: InputSpec, name: str) -> ImageRGB:
    """Return the copy of a picture that is displayed, [H,W,3] uint8 RGB, as the preprocessing says.

    Raises:
        PreprocessError: the picture has not the bands that are to be displayed.
    """
    bands = preprocess.show_bands
    if bands is None and not spec.takes_photos and photo.has_alpha and photo.colours == 3:
        bands = (0, 1, 2)  # the fourth channel is the model's, and does not make the photo transparent
    return photo.display(bands, preprocess.window, name)


def _value_remarks(photo: Photo, preprocess: Preprocess, spec: InputSpec) -> tuple[str, ...]:
    """Return what a user should know of the values of a deep picture."""
    if photo.pixels.dtype.itemsize == 1:
        return ()
    colours = photo.pixels[..., : photo.colours]
    remarks = []
    if photo.pixels.dtype.kind == "f":
        finite = np.isfinite(colours)
        if absent := finite.size - int(np.count_nonzero(finite)):
            remarks.append(f"{absent} of its values are not finite, and count as 0")
            colours = colours[finite] if absent < finite.size else np.zeros(1)
    if preprocess.white is None and preprocess.window is None and photo.window is None:
        white = photo.white or type_white(photo.pixels.dtype)
        lost = _unfit(photo.pixels.dtype, float(colours.min()), float(colours.max()), white)
        if lost and not _keeps_apart(preprocess, spec, white):
            remarks.append(lost)
    return tuple(remarks)


def _keeps_apart(preprocess: Preprocess, spec: InputSpec, white: float) -> bool:
    """Tell whether an integer input gets the whole numbers of a file at least as far apart as they are there."""
    step = min(abs(preprocess.scale / deviation) for deviation in preprocess.std) * 255.0 / white
    return spec.dtype.kind in "iu" and step > 0.999


def _unfit(dtype: np.dtype[Any], low: float, high: float, white: float) -> str | None:
    """Return what is unexpected where values from `low` to `high` go to the model with a `white` of the file's own."""
    reason = "since nothing states it" if white == type_white(dtype) else "as the file itself states"
    span = f"its {dtype} values go from {low:g} to {high:g}, but {white:g} is taken for white, {reason}"
    if low < 0 or high > white:
        return f"{span}: the model gets pixels from {low * 255 / white:.4g} to {high * 255 / white:.4g}; {_ADVICE}"
    if 0 < high < white / _LITTLE:
        return f"{span}, so hardly any contrast is left; {_ADVICE}"
    return None
