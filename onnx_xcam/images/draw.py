"""Heat maps as pictures."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_xcam.errors import XcamError
from onnx_xcam.images.backend import opencv
from onnx_xcam.images.fields import suggest
from onnx_xcam.images.pixels import ImageRGB
from onnx_xcam.images.place import bands

COLOUR_MAPS = ("inferno", "magma", "plasma", "viridis", "cividis", "turbo", "jet")
"""Known colour maps; all but turbo and jet are perceptually even."""

DEFAULT_COLOUR_MAP = "inferno"
SIGNED_COLOURS = ((33, 102, 172), (247, 247, 247), (178, 24, 43))
"""Against, neither, for: blue, white, red (RGB), the ends and the middle of ColorBrewer's RdBu."""
_UNSEEN_LIGHT = 0.65


def colour(heat01: npt.NDArray[np.floating], name: str = DEFAULT_COLOUR_MAP) -> ImageRGB:
    """A heat map [H,W] in 0..1 as colours [H,W,3] uint8 RGB; NaN counts as 0.

    Raises:
        XcamError: an unknown colour map.
    """
    table = _table(name)
    colours: ImageRGB = table[_levels(heat01)]
    return colours


def overlay(
    image_rgb: ImageRGB,
    heat01: npt.NDArray[np.floating],
    *,
    alpha: float = 0.75,
    colour_map: str = DEFAULT_COLOUR_MAP,
    beside: bool = False,
    seen: npt.NDArray[np.bool_] | None = None,
    signed: bool = False,
) -> ImageRGB:
    """The heat map over the photo, at the photo's own size.

    The opacity rises with the heat, from 0 where it is cold, so that the photo stays readable.

    Args:
        image_rgb: the photo, [H,W,3] uint8 RGB, never changed.
        heat01: [H,W] in 0..1; NaN counts as 0.
        alpha: opacity of the hottest pixels, 0..1.
        colour_map: one of `COLOUR_MAPS`.
        beside: put the photo to the left, the overlay to the right, and a narrow white gutter between.
        seen: bool [H,W], the rectangle that the model saw (`Placement.seen`); the rest is dimmed and set off by a thin
            frame.
        signed: the heat map is in -1..1 and is drawn in `SIGNED_COLOURS`: red speaks for the class, blue against it.

    Returns:
        [H,W,3] uint8 RGB; wider with `beside`.

    Raises:
        ValueError: the heat map's or the mask's size is not the photo's, or alpha is not in 0..1.
        XcamError: an unknown colour map.
    """
    shape = image_rgb.shape[:2]
    if heat01.shape != shape or (seen is not None and seen.shape != shape):
        raise ValueError(f"the heat map {list(heat01.shape)} and the mask must have the photo's size {list(shape)}")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must be in 0..1")
    levels = np.arange(256) / 255.0
    if signed:
        table, opacity = _signed_table(), _opacity(np.abs(2 * levels - 1))
        heat01 = (heat01 + 1) / 2
    else:
        table, opacity = _table(colour_map), _opacity(levels)
    result = _blend(image_rgb, heat01, alpha * opacity, table)
    if seen is not None and not seen.all():
        _set_off(result, seen)
    if not beside:
        return result
    gutter = np.full((shape[0], max(4, round(min(shape) / 50)), 3), 255, np.uint8)
    return np.concatenate([image_rgb, gutter, result], axis=1)


def _blend(
    image_rgb: ImageRGB, heat01: npt.NDArray[np.floating], opacity: npt.NDArray[np.float64], table: ImageRGB
) -> ImageRGB:
    """photo * (1 - a) + colour * a, with 256 levels of a and of the colour, by bands of rows."""
    tint = (table * opacity[:, None]).astype(np.float32)
    keep = np.repeat((1.0 - opacity).astype(np.float32)[:, None], 3, axis=1)
    result = np.empty_like(image_rgb)
    for band in bands(*heat01.shape):
        levels = _levels(heat01[band])
        mixed = np.take(keep, levels, axis=0)
        mixed *= image_rgb[band]
        mixed += np.take(tint, levels, axis=0)
        result[band] = np.rint(mixed, out=mixed)
    return result


def _levels(heat01: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    """The rows of a colour table for heat in 0..1; what lies beyond counts as the end, NaN as 0."""
    levels = np.fmax(heat01, 0.0)  # of a number and NaN, the number
    np.minimum(levels, 1.0, out=levels)
    levels *= 255
    rounded: npt.NDArray[np.uint8] = np.rint(levels, out=levels).astype(np.uint8)
    return rounded


def _opacity(heat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """0 at 0, 1 from 0.6 on, smooth between."""
    x = np.clip(heat / 0.6, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _set_off(image: ImageRGB, seen: npt.NDArray[np.bool_]) -> None:
    """Dim, in place, what the model did not see, and frame what it saw: the mask's rectangle."""
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    top, bottom = (rows[0], rows[-1] + 1) if rows.size else (0, 0)
    left, right = (columns[0], columns[-1] + 1) if columns.size else (0, 0)
    dimmed = np.rint(np.arange(256) * _UNSEEN_LIGHT).astype(np.uint8)
    outside = image[:top], image[bottom:], image[top:bottom, :left], image[top:bottom, right:]
    for strip in outside:
        if strip.size:
            strip[...] = opencv().LUT(np.ascontiguousarray(strip), dimmed)
    if not rows.size:
        return
    thick = max(1, round(min(seen.shape) / 300))
    height, width = seen.shape
    # Only along sides that lie inside the photo: at its edge there is nothing to set off.
    if top > 0:
        image[top : top + thick, left:right] = 255
    if bottom < height:
        image[bottom - thick : bottom, left:right] = 255
    if left > 0:
        image[top:bottom, left : left + thick] = 255
    if right < width:
        image[top:bottom, right - thick : right] = 255


@functools.cache
def _signed_table() -> ImageRGB:
    """The 256 colours from against to for: [256,3] uint8 RGB."""
    against, neither, speaks_for = np.array(SIGNED_COLOURS, np.float64)
    t = np.linspace(-1, 1, 256)[:, None]
    colours: ImageRGB = np.rint(neither + np.abs(t) * (np.where(t < 0, against, speaks_for) - neither)).astype(np.uint8)
    return colours


@functools.cache
def _table(name: str) -> ImageRGB:
    """The 256 colours of a map: [256,3] uint8 RGB."""
    if name not in COLOUR_MAPS:
        raise XcamError(f"unknown colour map {name!r}{suggest(name, COLOUR_MAPS)}")
    cv2 = opencv()
    levels = np.arange(256, dtype=np.uint8)[:, None]
    table: Any = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name.upper()}"))[:, 0, ::-1]
    return np.ascontiguousarray(table)
