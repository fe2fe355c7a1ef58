"""This module reads the orientation that the EXIF data of a picture file state, with Pillow."""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import pillow, without_warnings

# The formats whose headers Pillow reads, by their first bytes and where these stand. Each class of Pillow is used
# itself and not `PIL.Image.open`: that has a limit on pixels below `MAX_PIXELS`, which can only be lifted for the whole
# process.
_HEADERS = (
    (0, b"\xff\xd8", "Jpeg", "JpegImageFile"),
    (0, b"\x89PNG", "Png", "PngImageFile"),
    (8, b"WEBP", "WebP", "WebPImageFile"),
    (0, b"II", "Tiff", "TiffImageFile"),
    (0, b"MM", "Tiff", "TiffImageFile"),
    (4, b"ftyp", "Avif", "AvifImageFile"),
    (0, b"GIF8", "Gif", "GifImageFile"),
    (0, b"BM", "Bmp", "BmpImageFile"),
    (0, b"P", "Ppm", "PpmImageFile"),
    (0, b"\0\0\0\x0cjP", "Jpeg2K", "Jpeg2KImageFile"),
)
_REFUSALS = (
    SyntaxError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    AssertionError,
    MemoryError,
    struct.error,
    zlib.error,
)
"""The exceptions of Pillow at headers that are damaged, or of a kind that it does not know; OpenCV then decides."""

_ORIENTATION_TAG = 0x0112


def orientation_of(data: bytes, path: str) -> int:
    """Return the EXIF orientation (1..8) that is still to be undone after OpenCV has decoded a file.

    The orientation is 1 (upright) for formats that Pillow does not know.

    Raises:
        ImageError: the file is a JPEG without its end, or Pillow refuses the picture as too large.
    """
    # Warnings are ignored: damaged EXIF data lose the orientation only, and OpenCV finds out if the picture is whole.
    with without_warnings():
        stream = io.BytesIO(data)
        header = _open_header(stream, path)
        if header is None:
            return _png_orientation(data)
        # Pillow stops where the scans begin. Within them 0xFF is escaped, so that the end marker can only be the end.
        if header.format == "JPEG" and data.find(b"\xff\xd9", stream.tell()) < 0:  # OpenCV 4 would read it, part grey
            raise ImageError(f"{path}: the picture file is truncated; copy or download it again")
        if header.format == "TIFF":  # OpenCV turns a TIFF itself, whatever it is asked
            return 1
        early = header.info.keys() & {"exif", "Raw profile type exif"}
        if header.format == "PNG" and not early and b"eXIf" not in data:
            return 1  # otherwise Pillow would decode the whole picture in search of a late EXIF chunk
        return _stated(header.getexif)


def _stated(exif: Callable[[], Any]) -> int:
    """Return the orientation that EXIF data state, 1 if they are damaged."""
    try:
        orientation = exif().get(_ORIENTATION_TAG, 1)
    except _REFUSALS:
        return 1
    return orientation if orientation in range(1, 9) else 1


def _png_orientation(data: bytes) -> int:
    """Return the orientation of a PNG that Pillow refuses for something else in it, such as long texts; else 1."""
    at, exif = 8, pillow().Exif()
    while data.startswith(b"\x89PNG") and at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            return _stated(partial(_loaded, exif, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return 1


def _loaded(exif: Any, data: bytes) -> Any:
    """Pillow's table of EXIF data, filled with those of a chunk."""
    exif.load(data)
    return exif


def _open_header(stream: io.BytesIO, path: str) -> Any:
    """Return Pillow's image of this file, not decoded, or None where Pillow does not know the file."""
    image = pillow()
    start = stream.getbuffer()[:16].tobytes()
    for at, magic, plugin, name in _HEADERS:
        if start.startswith(magic, at):
            try:
                return getattr(importlib.import_module(f"PIL.{plugin}ImagePlugin"), name)(stream)
            except image.DecompressionBombError as error:
                raise ImageError(f"{path}: Pillow refuses this picture as too large: {error}") from error
            except (*_REFUSALS, ImportError):  # ImportError: AVIF before Pillow 11.3
                return None
    return None
