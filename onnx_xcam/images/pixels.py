"""This module turns pixels upright, and grey or transparent ones of 8 bits into [H,W,3], uint8, RGB."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

ImageRGB = npt.NDArray[np.uint8]
"""A picture in memory: [H,W,3], uint8, RGB, upright."""

Scalar = TypeVar("Scalar", bound=np.generic)

_BAND_ROWS = 256
"""Pixels are converted in bands of so many rows, since intermediate results take several times their memory."""


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
