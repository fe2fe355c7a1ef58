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
_OPENCV = {"linear": "INTER_LINEAR", "cubic": "INTER_CUBIC", "lanczos": "INTER_LANCZOS4", "area": "INTER_AREA"}


def resize_window(
    image: npt.NDArray[Scalar],
    scaled: tuple[int, int],
    window: tuple[int, int, int, int],
    interpolation: Interpolation,
    *,
    antialias: bool = True,
) -> npt.NDArray[Scalar]:
    """Resize a picture and return a window of the result.

    Args:
        image: [h,w,3] uint8, or [h,w] float32 (of any type where the size stays).
        scaled: (height, width) of the whole resized picture.
        window: (top, left, bottom, right) in the resized picture, within it.
        interpolation: "nearest" (the pixel under the centre), "linear", "cubic", "lanczos", or "area", which is
            OpenCV's INTER_AREA.
        antialias: True takes Pillow's `resize`, which computes the window only; False takes `cv2.resize`, and cuts the
            window out of its result. It has no meaning for "nearest" and "area".

    Returns:
        [bottom-top, right-left, 3] uint8, or [bottom-top, right-left] float32.

    Raises:
        PreprocessError: OpenCV would have to make a picture of more than `MAX_PIXELS`.
    """
    top, left, bottom, right = window
    height, width = image.shape[:2]
    if scaled == (height, width):  # every filter keeps a picture whose size does not change
        return image[top:bottom, left:right]
    if interpolation == "nearest":
        # Computed in whole numbers: Pillow and OpenCV add up a rounded step, and may pick the wrong pixel where a
        # centre falls between two.
        row, column = (
            (2 * np.arange(first, last, dtype=np.int64) + 1) * source // (2 * target)
            for first, last, source, target in ((top, bottom, height, scaled[0]), (left, right, width, scaled[1]))
        )
        picked: npt.NDArray[Scalar] = image[row[:, None], column]
        return picked
    if antialias and interpolation != "area":
        library = pillow()
        box = (
            left * width / scaled[1],
            top * height / scaled[0],
            right * width / scaled[1],
            bottom * height / scaled[0],
        )
        resample = library.Resampling[_PILLOW[interpolation]]
        return np.asarray(library.fromarray(image).resize((right - left, bottom - top), resample, box))
    if scaled[0] * scaled[1] > MAX_PIXELS:
        raise PreprocessError(
            f"this photo of {height}x{width} (height x width) would be scaled to {scaled[0]}x{scaled[1]} before it is "
            f"cropped, more than {MAX_PIXELS} pixels; say interpolation linear with antialias true, or resize letterbox"
        )
    cv2 = opencv()
    whole: npt.NDArray[Scalar] = cv2.resize(
        np.ascontiguousarray(image), scaled[::-1], interpolation=getattr(cv2, _OPENCV[interpolation])
    )
    return whole[top:bottom, left:right]
