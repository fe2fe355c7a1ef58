"""This module resizes pictures as training pipelines do: with Pillow, which smooths when it shrinks, or OpenCV."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.backend import MAX_PIXELS, opencv, pillow
from onnx_xcam.images.pixels import Scalar

Interpolation = Literal["nearest", "linear", "cubic", "area", "lanczos"]

# The names of the filters in Pillow and in OpenCV.
_PILLOW = {"linear": "BILINEAR", "cubic": "BICUBIC", "lanczos": "LANCZOS"}
_OPENCV = {
    "nearest": "INTER_NEAREST",
    "linear": "INTER_LINEAR",
    "cubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
    "area": "INTER_AREA",
}

_STEPS = 2**20
"""So many steps are added up at once."""


def cuts_between_pixels(interpolation: Interpolation, antialias: bool) -> bool:
    """Tell whether a window may begin between two pixels of the resized picture: where Pillow's filters compute it."""
    return antialias and interpolation in _PILLOW


def resize_window(
    image: npt.NDArray[Scalar],
    scaled: tuple[float, float],
    window: tuple[float, float, float, float],
    interpolation: Interpolation,
    *,
    antialias: bool = True,
) -> npt.NDArray[Scalar]:
    """Resize a picture and return a window of the result.

    Args:
        image: [h,w,3] uint8, or [h,w] float32 (of any type where the size stays).
        scaled: (height, width) of the whole resized picture. Where they are not whole, its sides are rounded, but its
            pixels lie as far apart as these numbers say.
        window: (top, left, bottom, right) in the resized picture, within it. Only Pillow cuts out between pixels;
            elsewhere it begins at the nearest one.
        interpolation: "nearest", "linear", "cubic", "lanczos", or "area", which is OpenCV's INTER_AREA.
        antialias: True takes Pillow's `resize`, which computes the window only; False takes `cv2.resize`, and cuts the
            window out of its result. It has no meaning for "area"; for "nearest" it chooses between Pillow's rule, the
            pixel under the centre, and OpenCV's, the one under the upper left corner.

    Returns:
        [bottom-top, right-left, 3] uint8, or [bottom-top, right-left] float32.

    Raises:
        PreprocessError: OpenCV would have to make a picture of more than `MAX_PIXELS`.
    """
    height, width = image.shape[:2]
    size = (round(window[2] - window[0]), round(window[3] - window[1]))
    top, left = round(window[0]), round(window[1])
    bottom, right = top + size[0], left + size[1]
    if scaled == (height, width) and (top, left) == window[:2]:  # every filter keeps a picture of the same size
        return image[top:bottom, left:right]
    if interpolation == "nearest" and antialias:
        row, column = _nearest(height, scaled[0], top, bottom), _nearest(width, scaled[1], left, right)
        picked: npt.NDArray[Scalar] = image[row[:, None], column]
        return picked
    if antialias and interpolation != "area":
        library = pillow()
        box = (
            window[1] * width / scaled[1],
            window[0] * height / scaled[0],
            min(window[3] * width / scaled[1], width),
            min(window[2] * height / scaled[0], height),
        )
        resample = library.Resampling[_PILLOW[interpolation]]
        return np.asarray(library.fromarray(image).resize(size[::-1], resample, box))
    whole = (round(scaled[0]), round(scaled[1]))
    if whole[0] * whole[1] > MAX_PIXELS:
        raise PreprocessError(
            f"this photo of {height}x{width} (height x width) would be scaled to {whole[0]}x{whole[1]} before it is "
            f"cropped, more than {MAX_PIXELS} pixels; say interpolation linear with antialias true, or resize letterbox"
        )
    cv2 = opencv()
    how = getattr(cv2, _OPENCV[interpolation])
    image = np.ascontiguousarray(image)
    resized: npt.NDArray[Scalar] = image
    if whole != scaled:
        resized = cv2.resize(image, None, fx=scaled[1] / width, fy=scaled[0] / height, interpolation=how)
    if resized.shape[:2] != whole:  # also where OpenCV rounds half a pixel of a side otherwise
        resized = cv2.resize(image, whole[::-1], interpolation=how)
    return resized[top:bottom, left:right]


def _nearest(source: int, target: float, first: int, last: int) -> npt.NDArray[np.int64]:
    """Return which pixels Pillow picks along an axis of `source`, for those from `first` up to `last` of `target`.

    It is the one under the centre. Where a centre falls between two pixels, rounding decides: the step is added up in
    float64, as `ImagingScaleAffine` does in Pillow's `src/libImaging/Geometry.c`.
    """
    step = source / target
    position = step * 0.5
    steps = np.full(_STEPS + 1, step)
    for _ in range(first // _STEPS):  # a long photo may be scaled to hundreds of millions of pixels, of which few count
        steps[0] = position
        position = np.cumsum(steps)[-1]
    before = first % _STEPS
    steps = np.full(before + last - first, step)
    steps[0] = position
    return np.minimum(np.cumsum(steps)[before:].astype(np.int64), source - 1)
