"""This module draws heat maps: as colours, and over photos."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import XcamError
from onnx_xcam.images.backend import opencv
from onnx_xcam.images.pixels import ImageRGB
from onnx_xcam.images.place import bands

COLOUR_MAPS = ("inferno", "magma", "plasma", "viridis", "cividis", "turbo", "jet")
"""The names of the colour maps for heat in 0..1; all but turbo and jet are perceptually uniform."""

DEFAULT_COLOUR_MAP = "inferno"
DIVERGING = {
    "blue-red": ((0, 72, 255), (242, 242, 242), (224, 16, 32)),
    "purple-green": ((128, 32, 208), (242, 242, 242), (0, 140, 70)),
}
"""The colour maps for signed maps: the colours of -1, 0 and 1, between which colours are interpolated."""

DEFAULT_DIVERGING = "blue-red"
_UNSEEN_LIGHT = 0.65
"""What the model did not see of a photo keeps this part of its brightness."""
_BEHIND = 0.4
"""A dimmed photo keeps this part of its brightness."""
_LEVELS = np.arange(256) / 255.0
"""The heat that each row of a colour table stands for."""


def colour(heat01: npt.NDArray[np.floating], name: str = DEFAULT_COLOUR_MAP) -> ImageRGB:
    """Return a heat map [H,W] in 0..1 as colours [H,W,3] uint8 RGB; NaN counts as 0.

    Raises:
        XcamError: there is no colour map of this name.
    """
    colours: ImageRGB = colour_table(name)[_levels(heat01)]
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
    """Draw a heat map over a photo, at the photo's own size.

    The opacity rises with the heat from 0 on, so that the photo stays readable; in a signed map it rises with the
    magnitude of the value.

    Args:
        image_rgb: the photo, [H,W,3] uint8 RGB, never changed.
        heat01: [H,W] in 0..1, in -1..1 if signed; NaN counts as 0.
        alpha: opacity of the hottest pixels, 0..1.
        colour_map: one of `COLOUR_MAPS`, or of `DIVERGING` if signed.
        beside: put the photo to the left, the overlay to the right, and a narrow white gutter between.
        seen: bool [H,W], the rectangle that the model saw (`Placement.seen`); the rest is dimmed and set off by a thin
            frame.
        signed: values go from -1 (speaks against) to 1 (speaks for).

    Returns:
        [H,W,3] uint8 RGB; wider with `beside`.

    Raises:
        ValueError: the heat map's or the mask's size is not the photo's, or alpha is not in 0..1.
        XcamError: there is no colour map of this name.
    """
    shape = image_rgb.shape[:2]
    if heat01.shape != shape or (seen is not None and seen.shape != shape):
        raise ValueError(f"the heat map {list(heat01.shape)} and the mask must have the photo's size {list(shape)}")
    if not 0.0 <= alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}; it must be in 0..1")
    strength = _opacity(np.abs(_LEVELS * 2 - 1) if signed else _LEVELS)
    if signed:
        heat01 = (np.nan_to_num(heat01, nan=0.0) + 1) / 2
    result = _blend(image_rgb, heat01, alpha * strength, colour_table(colour_map))
    if seen is not None and not seen.all():
        _set_off(result, seen)
    return side_by_side(image_rgb, result) if beside else result


def united(heats: Iterable[npt.NDArray[np.floating]]) -> npt.NDArray[np.float32]:
    """Return the largest of several heat maps in 0..1 at each pixel, float32 [H,W]: one picture of many objects.

    Args:
        heats: at least one heat map [H,W], each on its own scale; NaN counts as 0. Two are held at a time.

    Raises:
        ValueError: there is none, or they differ in size.
    """
    result: npt.NDArray[np.float32] | None = None
    for heat01 in heats:
        one = np.fmax(heat01, 0.0).astype(np.float32, copy=False)
        result = one if result is None else np.maximum(result, one)
    if result is None:
        raise ValueError("there is no heat map to unite")
    return result


def side_by_side(left_rgb: ImageRGB, right_rgb: ImageRGB) -> ImageRGB:
    """Put two pictures of the same height beside each other, with a narrow white gutter between them."""
    height, width = left_rgb.shape[:2]
    gutter = np.full((height, max(4, round(min(height, width) / 50)), 3), 255, np.uint8)
    return np.concatenate([left_rgb, gutter, right_rgb], axis=1)


def dimmed(image_rgb: ImageRGB) -> ImageRGB:
    """Return a photo in dark grey, [H,W,3] uint8 RGB, on which fine, scattered heat can be seen."""
    cv2 = opencv()
    grey = cv2.LUT(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), np.rint(np.arange(256) * _BEHIND).astype(np.uint8))
    return np.repeat(grey[..., None], 3, axis=2)


def _blend(
    image_rgb: ImageRGB, heat01: npt.NDArray[np.floating], opacity: npt.NDArray[np.float64], table: ImageRGB
) -> ImageRGB:
    """Return photo * (1 - a) + colour * a.

    Args:
        image_rgb: the photo, [H,W,3] uint8.
        heat01: [H,W] in 0..1, which chooses a row of the tables.
        opacity: a by the level of the heat, [256].
        table: the colours by the level of the heat, [256,3] uint8.
    """
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
    """Return the rows of a colour table for heat in 0..1; values outside are clipped, NaN counts as 0."""
    levels = np.fmax(heat01, 0.0)  # fmax of NaN and 0 is 0
    np.minimum(levels, 1.0, out=levels)
    levels *= 255
    rounded: npt.NDArray[np.uint8] = np.rint(levels, out=levels).astype(np.uint8)
    return rounded


def _opacity(heat: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the opacity of heat in 0..1: 0 at 0, 1 from 0.6 on, and a smooth step between."""
    x = np.clip(heat / 0.6, 0.0, 1.0)
    return x * x * (3.0 - 2.0 * x)


def _set_off(image: ImageRGB, seen: npt.NDArray[np.bool_]) -> None:
    """Dim, in place, what the model did not see of a photo, and frame the rectangle that it saw."""
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
    # The frame is drawn only along sides that lie inside the photo.
    if top > 0:
        image[top : top + thick, left:right] = 255
    if bottom < height:
        image[bottom - thick : bottom, left:right] = 255
    if left > 0:
        image[top:bottom, left : left + thick] = 255
    if right < width:
        image[top:bottom, right - thick : right] = 255


@functools.cache
def colour_table(name: str) -> ImageRGB:
    """Return the 256 colours of a colour map, [256,3] uint8 RGB.

    Raises:
        XcamError: there is no colour map of this name.
    """
    if name in DIVERGING:
        mixed = [np.interp(_LEVELS * 2 - 1, (-1, 0, 1), channel) for channel in zip(*DIVERGING[name], strict=True)]
        return np.rint(np.stack(mixed, axis=1)).astype(np.uint8)
    if name not in COLOUR_MAPS:
        raise XcamError(f"unknown colour map {name!r}{suggestion_of_few(name, (*COLOUR_MAPS, *DIVERGING))}")
    cv2 = opencv()
    levels = np.arange(256, dtype=np.uint8)[:, None]
    table: Any = cv2.applyColorMap(levels, getattr(cv2, f"COLORMAP_{name.upper()}"))[:, 0, ::-1]
    return np.ascontiguousarray(table)
