"""This module makes photos of images of Pillow, which are read here only once their size is checked."""

from __future__ import annotations

import importlib
import io
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError
from onnx_xcam.images.content import require_size
from onnx_xcam.images.display import type_white
from onnx_xcam.images.photo import Photo

_AS_THEY_ARE = ("L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of pixels that are handed on with their own values."""
_GREY = ("1", "L", "LA", "La")
"""Pillow's modes of grey with no more than 8 bits."""


def is_pil_image(source: object) -> bool:
    """Tell whether a source is an image of Pillow; if Pillow was never imported, nothing is one."""
    kind = getattr(sys.modules.get("PIL.Image"), "Image", None)  # None too while another thread imports it
    return kind is not None and isinstance(source, kind)


def name_of_pil_image(image: Any, name: str) -> str:
    """Return the path of the file from which Pillow opened an image, or `name` where there is none."""
    return str(getattr(image, "filename", "") or name)


def photo_of_pil_image(image: Any, name: str) -> Photo:
    """Return the photo in an image of Pillow, turned upright as its EXIF data say; the image is not changed.

    Grey and RGB keep their values and depth (modes L, RGB, I;16, I, F). A palette, CMYK and other colours become RGB,
    transparency becomes alpha, and black and white (mode 1) becomes grey.

    Raises:
        ImageError: the image has no pixels, too many, or cannot be loaded or converted.
    """
    width, height = image.size
    if not width or not height:
        raise ImageError(f"{name}: an image without pixels: {width} x {height}")
    require_size(width, height, _encoded_length(image), name, _pixel_bytes(image))
    try:
        image.load()
        pixels = _pixels(_upright(image))
    except (OSError, ValueError, SyntaxError, EOFError, AttributeError, TypeError, RuntimeError) as error:
        why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        raise ImageError(f"{name}: Pillow cannot load this image ({why})") from error
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    remarks = ("it holds several pictures, of which the current one is taken",) if _is_one_of_several(image) else ()
    white = None if pixels.dtype.kind == "i" else type_white(pixels.dtype)
    return Photo(np.ascontiguousarray(pixels), pixels.shape[2] in (2, 4), white, None, remarks)


def _pixel_bytes(image: Any) -> int:
    """Return how many bytes a pixel of an image takes: as many as its mode has channels, of 1, 2 or 4 bytes each."""
    mode = str(image.mode)
    each = 2 if mode.startswith("I;16") else 4 if mode in ("I", "F") else 1
    return each * (4 if mode in ("P", "PA") else len(image.getbands()))


def _is_one_of_several(image: Any) -> bool:
    """Tell whether an image is a page or frame of several."""
    return int(getattr(image, "n_frames", 1)) > 1


def _encoded_length(image: Any) -> int | None:
    """Return the length of the file from which an image is still to be decoded; None for one that is in memory."""
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None):
        return None
    try:
        at = file.tell()
        length = file.seek(0, io.SEEK_END)
        file.seek(at)
    except (OSError, ValueError, AttributeError):
        return None
    return int(length)


def _upright(image: Any) -> Any:
    """Return an image turned as its EXIF data say: the image itself where there is nothing to turn."""
    return importlib.import_module("PIL.ImageOps").exif_transpose(image)


def _pixels(image: Any) -> NDArray[Any]:
    """Return the pixels of a loaded image: [H,W] or [H,W,C] of uint8, uint16, int32 or float32."""
    if image.has_transparency_data:
        return np.asarray(image.convert("LA" if image.mode in _GREY else "RGBA"))
    if image.mode in _AS_THEY_ARE:
        array = np.asarray(image)
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    return np.asarray(image.convert("L" if image.mode == "1" else "RGB"))
