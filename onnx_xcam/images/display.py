"""This module makes the copy of a picture that is displayed: [H,W,3] uint8 RGB, whatever the picture holds.

Pixels of 8 bits are displayed as they are. Deeper ones are stretched: what lies below the percentile `_DARK` becomes
black and what lies above `_BRIGHT` white, since most deep files use a small part of their type's range, and a few dead
or saturated pixels must not decide what is black and white. Photos in RGB keep their hue, since all three colours are
stretched alike; other bands are measured on scales of their own, and each is stretched by itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_xcam.images.pixels import ImageRGB, row_bands, to_rgb

_DARK, _BRIGHT = 0.5, 99.5
_SAMPLE = 2**20
"""The percentiles are taken of at most so many pixels, evenly spread."""


def displayed(
    pixels: npt.NDArray[Any],
    has_alpha: bool,
    alike: bool,
    window: tuple[float, float] | None = None,
    opaque: float | None = None,
) -> ImageRGB:
    """Return pixels as [H,W,3] uint8 RGB; alpha is laid over white, and grey becomes three equal channels.

    Args:
        pixels: [H,W,1..4] of any type, 0 as black, with alpha last if there is any.
        has_alpha: whether the last channel is alpha.
        alike: whether the channels are stretched alike, as colours are, and not each by itself.
        window: the values that become black and white; None takes the percentiles.
        opaque: the largest alpha; None takes what the type calls white.
    """
    if pixels.dtype == np.uint8 and window is None:
        return np.ascontiguousarray(to_rgb(pixels))
    colours = pixels.shape[2] - has_alpha
    ranges = [window] * colours if window else _ranges(pixels[..., :colours], alike)
    scaled = np.empty(pixels.shape, np.uint8)
    for rows in row_bands(len(pixels)):
        for channel, (low, high) in enumerate(ranges):
            scaled[rows, :, channel] = _stretched(pixels[rows, :, channel], low, high)
        if has_alpha:
            scaled[rows, :, -1] = _stretched(pixels[rows, :, -1], 0.0, opaque or type_white(pixels.dtype))
    return np.ascontiguousarray(to_rgb(scaled))


def type_white(dtype: np.dtype[Any]) -> float:
    """Return the value that a type calls white: the largest integer, 1.0 for floats."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


def _ranges(colours: npt.NDArray[Any], alike: bool) -> list[tuple[float, float]]:
    """Return the values of each channel that become black and white."""
    step = max(1, int(np.ceil(np.sqrt(colours.shape[0] * colours.shape[1] / _SAMPLE))))
    sample = colours[::step, ::step].astype(np.float64)
    if alike:
        return [_percentiles(sample)] * colours.shape[2]
    return [_percentiles(sample[..., channel]) for channel in range(colours.shape[2])]


def _percentiles(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the two percentiles of the finite values; of an even picture, black and the value, so that it is seen."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(finite, (_DARK, _BRIGHT)))
    if low == high:  # nearly even: whatever stands out is seen
        low, high = float(finite.min()), float(finite.max())
    return (low, high) if low < high else (min(0.0, low), max(0.0, high, low + 1.0))


def _stretched(plane: npt.NDArray[Any], low: float, high: float) -> ImageRGB:
    """Return [h,w] values as 0 at `low` to 255 at `high`, cut off outside; values that are not finite are black."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (plane.astype(np.float64) - low) * (255.0 / (high - low))
    scaled[~np.isfinite(scaled)] = 0.0
    grey: ImageRGB = np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
    return grey
