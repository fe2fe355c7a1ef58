"""This module reads picture files: with their own depth and channels, as a copy for display, or as a mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import memory_for, opencv
from onnx_xcam.images.content import Content, content_of, no_picture
from onnx_xcam.images.decode import decode
from onnx_xcam.images.decoded import Decoded
from onnx_xcam.images.display import type_white
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.pixels import ImageRGB, upright


def read_image(path: str | Path) -> ImageRGB:
    """Read the picture in a file for display: [H,W,3] uint8 RGB, turned upright as its EXIF data say.

    The file may have any format of the installed OpenCV. Transparent parts are laid over white, grey becomes three
    equal channels, and the first picture of an animation is taken. Pictures of more than 8 bits are stretched by
    percentiles; `read_photo` returns their own values.

    Raises:
        ImageError: the file is missing, no regular file, empty, truncated, not a picture that OpenCV can read, of more
            than `MAX_PIXELS` pixels or `MAX_BYTES` bytes, or the memory ran out.
    """
    with memory_for(path):
        return read_photo(path).display()


def read_photo(path: str | Path) -> Photo:
    """Read the picture in a file with its own depth, values and channels, turned upright as its EXIF data say.

    Raises:
        ImageError: as `read_image`.
    """
    with memory_for(path):
        return decoded_photo(_content(path))


def decoded_photo(content: Content) -> Photo:
    """Decode a picture file with its own depth, values and channels, and turn it upright as its EXIF data say.

    Raises:
        ImageError: as `read_image`.
    """
    with memory_for(content.name):
        return _photo_of(decode(content.data, content.name))


def _photo_of(decoded: Decoded) -> Photo:
    """Return a decoded picture as a photo: upright, 0 as black, and colours in the order RGB."""
    pixels = decoded.with_black_at_zero()
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if decoded.is_bgr and pixels.shape[2] >= 3:
        pixels = _in_rgb(pixels)
    pixels = np.ascontiguousarray(upright(pixels, decoded.orientation))
    white = float(decoded.white or type_white(pixels.dtype))
    return Photo(pixels, decoded.has_alpha, white, None, decoded.remarks)


def _in_rgb(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return BGR or BGRA pixels as RGB or RGBA."""
    if pixels.dtype in (np.uint8, np.uint16, np.float32):
        # OpenCV takes a tenth of the time that NumPy takes to reorder the channels.
        cv2 = opencv()
        converted: NDArray[Any] = cv2.cvtColor(
            pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        )
        return converted
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def read_mask(path: str | Path) -> NDArray[np.bool_]:
    """Read the mask in a picture file, bool [H,W], upright: True where a pixel is neither black nor wholly transparent.

    Raises:
        ImageError: as `read_image`, or the file is a JPEG, whose compression leaves grey specks on black.
    """
    path = Path(path)
    if path.suffix.lower() in (".jpe", ".jpeg", ".jpg"):
        raise ImageError(f"{path}: a mask cannot be a JPEG, which does not keep black black; save it as PNG")
    with memory_for(path):
        content = _content(path)
        decoded = decode(content.data, content.name)
    marked: NDArray[np.bool_] = decoded.with_black_at_zero() != 0
    if marked.ndim == 3:
        colours = marked.shape[2] - decoded.has_alpha
        coloured = np.logical_or.reduce(marked[..., :colours], axis=2)
        marked = coloured if colours == marked.shape[2] else np.logical_and(coloured, marked[..., -1])
    return np.ascontiguousarray(upright(marked, decoded.orientation))


def _content(path: str | Path) -> Content:
    """Return the bytes of a picture file that OpenCV may be able to read."""
    content = content_of(path)
    if content.kind != "picture":
        raise no_picture(path)
    return content
