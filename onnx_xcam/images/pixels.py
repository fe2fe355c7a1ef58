"""This module turns pixels of any depth and kind into the form of a picture in memory: [H,W,3], uint8, RGB, upright."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

ImageRGB = npt.NDArray[np.uint8]
"""A picture in memory: [H,W,3], uint8, RGB, upright."""

Scalar = TypeVar("Scalar", bound=np.generic)

_BAND_ROWS = 256
"""Pixels are converted in bands of so many rows, since intermediate results take several times their memory."""


def to_8_bit(pixels: npt.NDArray[Any]) -> ImageRGB:
    """Scale pixels of any depth to 0..255, with one factor for all channels; `read_image` states the rules."""
    if pixels.dtype == np.uint8:
        return pixels
    bands = row_bands(len(pixels))
    if pixels.dtype.kind == "f":
        white = max(1.0, *(float(_positive(pixels[band]).max(initial=0.0)) for band in bands))
    else:
        white = float(np.iinfo(pixels.dtype).max)
    scaled = np.empty(pixels.shape, np.uint8)
    for band in bands:
        scaled[band] = np.rint(_positive(pixels[band]) * (255.0 / white)).astype(np.uint8)
    return scaled


def _positive(pixels: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    """Return pixels as floats, with 0 for negative and non-finite values."""
    if pixels.dtype.kind == "f":
        pixels = np.nan_to_num(pixels, nan=0.0, posinf=0.0, neginf=0.0)
    else:
        pixels = pixels.astype(np.float64)
    positive: npt.NDArray[np.floating] = np.clip(pixels, 0.0, None)
    return positive


def row_bands(rows: int) -> list[slice]:
    """Return slices of at most `_BAND_ROWS` rows that cover all rows."""
    return [slice(top, top + _BAND_ROWS) for top in range(0, rows, _BAND_ROWS)]


def to_rgb(pixels: ImageRGB) -> ImageRGB:
    """Convert grey [H,W] or [H,W,1], grey with alpha [H,W,2], RGB or RGBA to RGB; alpha is laid over white."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] == 3:
        return pixels
    if len(pixels) > _BAND_ROWS:
        result = np.empty((*pixels.shape[:2], 3), np.uint8)
        for band in row_bands(len(pixels)):
            result[band] = to_rgb(pixels[band])
        return result
    colours = pixels[..., : 1 if pixels.shape[2] < 3 else 3]
    if pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1:].astype(np.uint16)
        colours = ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)  # at most 65152: fits uint16
    rgb: ImageRGB = colours if colours.shape[2] == 3 else np.repeat(colours, 3, axis=2)
    return rgb


def upright(image: npt.NDArray[Scalar], orientation: int) -> npt.NDArray[Scalar]:
    """Undo an EXIF orientation (1..8) of [H,W] or [H,W,C]."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return image
