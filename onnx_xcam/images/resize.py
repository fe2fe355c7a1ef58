"""Resizing as the training pipelines do it.

OpenCV's `resize` does not smooth when it shrinks, Pillow's and torchvision's do, and models notice. So resizing is
separable resampling with Pillow's filters, of which OpenCV's are the special case without smoothing. Measured on
photos: `antialias=True` agrees with Pillow (nearest, bilinear, bicubic, Lanczos) to 1 grey level when shrinking and 2
when enlarging, `antialias=False` with `cv2.resize` (linear, cubic) and "area" with its INTER_AREA to 1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_xcam.images.read import ImageRGB

Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos"]

_RADIUS = {"linear": 1.0, "cubic": 2.0, "lanczos": 3.0}


def resize_window(
    image_rgb: ImageRGB,
    scaled: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: Interpolation,
    *,
    antialias: bool = True,
) -> ImageRGB:
    """A window of the resized picture, without computing the rest.

    Args:
        image_rgb: [h,w,3] uint8.
        scaled: (height, width) of the whole resized picture.
        window: (top, left, bottom, right) in the resized picture, within it.
        interpolation: "nearest", "linear", "cubic", "area" (each pixel the mean of what it covers) or "lanczos".
        antialias: widen the filter when shrinking, as Pillow does; no meaning for "nearest" and "area".

    Returns:
        [bottom-top, right-left, 3] uint8.
    """
    top, left, bottom, right = window
    height, width = image_rgb.shape[:2]
    if scaled == (height, width):  # every filter passes its own grid unchanged
        return image_rgb[top:bottom, left:right]
    row_at, row_weight = _taps((height, scaled[0]), (top, bottom), interpolation, antialias)
    column_at, column_weight = _taps((width, scaled[1]), (left, right), interpolation, antialias)
    first, last = int(column_at.min()), int(column_at.max()) + 1
    rows = _gather_rows(np.ascontiguousarray(image_rgb[:, first:last]), row_at, row_weight)
    # The columns, as rows of the transposed picture.
    result = _gather_rows(np.ascontiguousarray(rows.transpose(1, 0, 2)), column_at - first, column_weight)
    return np.clip(np.rint(result), 0, 255).astype(np.uint8).transpose(1, 0, 2)


def _gather_rows(
    image: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    at: npt.NDArray[np.intp],
    weight: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Row i of the result is the sum over t of weight[i,t] * image[at[i,t]]."""
    result = np.empty((len(at), image[0].size), np.float32)
    for out, taps, weights in zip(result, at, weight, strict=True):
        first, last = int(taps[0]), int(taps[-1]) + 1
        merged = np.bincount(taps - first, weights, minlength=last - first)  # taps held at an edge coincide
        np.matmul(merged.astype(np.float32), image[first:last].reshape(last - first, -1).astype(np.float32), out=out)
    return result.reshape(len(at), *image.shape[1:])


def _taps(
    lengths: tuple[int, int], window: tuple[int, int], interpolation: Interpolation, antialias: bool
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """For each output of a window along an axis: which inputs, and with what weight, both [outputs, taps]."""
    source, target = lengths
    if interpolation == "nearest":
        # In whole numbers: a centre that falls between two inputs takes the later one, as in Pillow.
        at = ((2 * np.arange(*window, dtype=np.intp) + 1) * source // (2 * target))[:, None]
        return at, np.ones(at.shape, np.float32)
    scale = source / target
    centre = (np.arange(*window) + 0.5) * scale
    if interpolation == "area":
        stretch, radius = scale, 0.5 * scale + 0.5
    else:
        stretch = max(scale, 1.0) if antialias else 1.0
        radius = _RADIUS[interpolation] * stretch
    first = np.floor(centre - radius + 0.5).astype(np.intp)
    at = first[:, None] + np.arange(int(np.ceil(2 * radius)) + 1)
    offset = at + 0.5 - centre[:, None]
    if interpolation == "area":
        weight = np.clip(np.minimum(offset + 0.5, scale / 2) - np.maximum(offset - 0.5, -scale / 2), 0.0, None)
    else:
        weight = _kernel(offset / stretch, interpolation, sharpness=-0.5 if antialias else -0.75)
    inside = (at >= 0) & (at < source)
    if antialias or interpolation == "area":
        weight = np.where(inside, weight, 0.0)  # Pillow leaves out what lies beyond the edge; OpenCV repeats the edge
    at = np.clip(at, 0, source - 1)
    return at, (weight / weight.sum(axis=1, keepdims=True)).astype(np.float32)


def _kernel(x: npt.NDArray[np.float64], interpolation: Interpolation, sharpness: float) -> npt.NDArray[np.float64]:
    """The filter's value at distance x; `sharpness` is the cubic's a: -0.5 in Pillow, -0.75 in OpenCV."""
    x = np.abs(x)
    if interpolation == "linear":
        return np.clip(1.0 - x, 0.0, None)
    if interpolation == "lanczos":
        return np.where(x < 3.0, np.sinc(x) * np.sinc(x / 3.0), 0.0)
    a = sharpness
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
