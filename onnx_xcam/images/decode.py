"""This module decodes picture files, after their headers were checked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import first_line, is_no_memory, opencv
from onnx_xcam.images.content import no_picture, require_size
from onnx_xcam.images.decoded import Decoded
from onnx_xcam.images.headers import (
    Format,
    format_of,
    jpeg_bits,
    scans_of_jpeg,
    stated_samples,
    stated_size,
    without_long_texts,
)
from onnx_xcam.images.netpbm import read_pam
from onnx_xcam.images.orientation import orientation_of
from onnx_xcam.images.pages import remark_on_pages
from onnx_xcam.images.photo import TAKEN_FOR_ALPHA
from onnx_xcam.images.samples import Samples
from onnx_xcam.images.tiff import RGB, WHITE_IS_ZERO, first_page
from onnx_xcam.images.tiff_bands import needs_own_reader, read_bands

_SCANS, _SCANNED = 20, 2**31
"""A progressive JPEG of more than _SCANS scans may have as many as go through _SCANNED pixels in all, which takes some
seconds. Encoders make some ten, and a scan goes through all pixels, however few bytes it has."""


def decode(data: bytes, path: str) -> Decoded:
    """Decode the content of a picture file, after its header was checked; messages call it by `path`.

    Raises:
        ImageError: the file is damaged, too large, or no picture that can be read.
    """
    page = first_page(data)
    kind, samples = _checked(data, path)
    if kind.magic == b"P7":
        return replace(read_pam(data, path), white=samples.white)
    of_pages = remark_on_pages(data, page)
    remarks = [] if of_pages is None else [of_pages]
    if page is not None and needs_own_reader(page):
        pixels = read_bands(data, page, path)
        turned = page.orientation if page.orientation in range(1, 9) else 1
        return Decoded(pixels, turned, page.has_alpha, page.photometric == WHITE_IS_ZERO, False, tuple(remarks))
    if page is not None and page.photometric == RGB and page.samples == 4 and page.bands_beside == 1:
        remarks.insert(0, TAKEN_FOR_ALPHA)
    orientation = orientation_of(data, path)
    pixels = _decoded_pixels(data, path)
    if page is not None and samples.white is not None:
        pixels = pixels >> (16 - samples.bits)  # OpenCV shifts the 10, 12 or 14 bits of TIFF to the left
    # OpenCV inverts values of 8 bits or fewer itself, but not those of more.
    inverted = page is not None and page.photometric == WHITE_IS_ZERO and pixels.dtype.itemsize > 1
    has_alpha = pixels.ndim == 3 and pixels.shape[2] in (2, 4)
    return Decoded(pixels, orientation, has_alpha, inverted, True, tuple(remarks), samples.white)


def _decoded_pixels(data: bytes, path: str) -> NDArray[Any]:
    """Decode a file's content with OpenCV, as it is: [H,W] or [H,W,1..4] of any type, BGR, not turned upright."""
    cv2 = opencv()
    try:
        # UNCHANGED keeps alpha and depth, and implies IGNORE_ORIENTATION.
        pixels: NDArray[Any] | None = cv2.imdecode(
            np.frombuffer(without_long_texts(data), np.uint8), cv2.IMREAD_UNCHANGED
        )
    except cv2.error as error:
        if is_no_memory(error):
            raise
        raise ImageError(f"{path}: OpenCV cannot read this picture: {first_line(error)}") from error
    if pixels is None:
        raise _undecoded(data, path)
    require_size(pixels.shape[1], pixels.shape[0], None, path)
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{path}: has {pixels.shape[2]} channels; save it as an RGB or grey picture")
    return pixels


def _undecoded(data: bytes, path: str) -> ImageError:
    """Return the error that says why OpenCV has not decoded a file."""
    if data.startswith(b"\xff\xd8") and (bits := jpeg_bits(data)) not in (None, 8):
        return ImageError(f"{path}: is a JPEG of {bits} bits, which OpenCV does not read; save it as a PNG of 16 bits")
    return no_picture(path)


def _checked(data: bytes, path: str) -> tuple[Format, Samples]:
    """Make sure, before anything is decoded, that a picture has a size that can be read; return what its header says.

    Raises:
        ImageError: the file states no size, more than `MAX_PIXELS` pixels, or far more than it can hold.
    """
    kind = format_of(data[:32])
    size = None if kind is None else stated_size(data, kind)
    if kind is None or size is None:
        raise no_picture(path)
    samples = stated_samples(data, kind)
    require_size(*size, len(data), path, samples.pixel_bytes)
    if data.startswith(b"\xff\xd8") and (scans := scans_of_jpeg(data)) > max(_SCANS, _SCANNED // (size[0] * size[1])):
        raise ImageError(
            f"{path}: is a progressive JPEG of {scans} scans, which would take very long; save it as an ordinary JPEG"
        )
    return kind, samples
