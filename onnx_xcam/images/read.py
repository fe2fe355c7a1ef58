"""This module reads picture files. In memory a picture is always [H,W,3], uint8, RGB, upright."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import MAX_PIXELS, first_line, is_no_memory, memory_for, opencv
from onnx_xcam.images.content import Content, content_of, no_picture
from onnx_xcam.images.display import type_white
from onnx_xcam.images.headers import format_of, stated_size
from onnx_xcam.images.orientation import orientation_of
from onnx_xcam.images.pages import holds_several
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.pixels import ImageRGB, to_8_bit, to_rgb, upright
from onnx_xcam.images.remarks import READY, FileValues
from onnx_xcam.images.tiff import RGB, WHITE_IS_ZERO, TiffPage, first_page

_BOMB_PIXELS, _BOMB_RATIO = 2**25, 1000
"""A picture of more than _BOMB_PIXELS must have a byte in its file for every _BOMB_RATIO pixels; a photo has one for
every ten."""


def read_image(path: str | Path) -> ImageRGB:
    """Read the picture in a file as [H,W,3] uint8 RGB, turned upright as its EXIF data say.

    The file may have any format of the installed OpenCV. Transparent parts are laid over white, grey becomes three
    equal channels, and the first picture of an animation is taken. Integers of more than 8 bits are scaled by their
    type's range (negative values become 0); for floats 0..1 is black to white, and where the largest value is above 1
    the picture is divided by it (negative and non-finite values become 0).

    Raises:
        ImageError: the file is missing, no regular file, empty, truncated, not a picture that OpenCV can read, of more
            than `MAX_PIXELS` pixels or `MAX_BYTES` bytes, or the memory ran out.
    """
    return read_picture(path).image_rgb


@dataclass(frozen=True)
class ReadPicture:
    """A ReadPicture is a picture from a file, with what a user should know of how it was read.

    Attributes:
        image_rgb: the picture as `read_image` returns it.
        values: the values in the file; None for an ordinary picture of 8 bits.
        remarks: what was assumed or lost, as parts of sentences about the file.
    """

    image_rgb: ImageRGB
    values: FileValues | None
    remarks: tuple[str, ...]


def remarks_for(read: ReadPicture, dtype: np.dtype[Any]) -> tuple[str, ...]:
    """Return the remarks on a picture that is fed to a model's input of this type."""
    lost = None if read.values is None else read.values.remark_for_integers(dtype)
    if lost is None or read.values is None:
        return read.remarks
    return (*(one for one in read.remarks if one != read.values.remark()), lost)


def read_picture(path: str | Path) -> ReadPicture:
    """Read the picture in a file as `read_image` does, with remarks on what was assumed or lost.

    Raises:
        ImageError: as `read_image`.
    """
    with memory_for(path):
        decoded = _decoded(_content(path))
        values = None if decoded.pixels.dtype == np.uint8 else FileValues.of(decoded.pixels)
        pixels = to_8_bit(decoded.with_black_at_zero())
        if pixels.ndim == 3 and pixels.shape[2] >= 3:
            # OpenCV takes a tenth of the time that NumPy takes to reorder the channels.
            cv2 = opencv()
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
        image_rgb = np.ascontiguousarray(upright(to_rgb(pixels), decoded.orientation))
        remark = values.remark() if values else None
        return ReadPicture(image_rgb, values, (*decoded.remarks, *([remark] if remark else [])))


def read_photo(path: str | Path) -> Photo:
    """Read the picture in a file with its own depth and values, turned upright as its EXIF data say.

    Raises:
        ImageError: as `read_image`.
    """
    with memory_for(path):
        return decoded_photo(_content(path))


def decoded_photo(content: Content) -> Photo:
    """Decode a picture file with its own depth and values, and turn it upright as its EXIF data say.

    Raises:
        ImageError: as `read_image`.
    """
    with memory_for(content.name):
        decoded = _decoded(content)
        pixels = decoded.with_black_at_zero()
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        if pixels.shape[2] >= 3:
            pixels = _in_rgb(pixels)
        pixels = np.ascontiguousarray(upright(pixels, decoded.orientation))
        return Photo(pixels, pixels.shape[2] in (2, 4), type_white(pixels.dtype), None, decoded.remarks)


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
    decoded = _decoded(_content(path))
    marked: NDArray[np.bool_] = decoded.with_black_at_zero() != 0
    if marked.ndim == 3:
        colours = marked.shape[2] - (marked.shape[2] in (2, 4))
        coloured = np.logical_or.reduce(marked[..., :colours], axis=2)
        marked = coloured if colours == marked.shape[2] else np.logical_and(coloured, marked[..., -1])
    return np.ascontiguousarray(upright(marked, decoded.orientation))


@dataclass(frozen=True)
class _Decoded:
    """A _Decoded is a picture file as OpenCV decodes it.

    Attributes:
        pixels: [H,W] or [H,W,1..4] of any type; colours are BGR.
        orientation: the EXIF orientation (1..8) that is still to be undone.
        white_is_zero: whether 0 is white, as in the file, since OpenCV has not inverted the values.
        remarks: what was assumed or lost, as parts of sentences about the file.
    """

    pixels: NDArray[Any]
    orientation: int
    white_is_zero: bool
    remarks: tuple[str, ...]

    def with_black_at_zero(self) -> NDArray[Any]:
        """Return the pixels with 0 as black."""
        if not self.white_is_zero:
            return self.pixels
        kind = self.pixels.dtype.kind
        white = max(1.0, float(np.nanmax(self.pixels))) if kind == "f" else np.iinfo(self.pixels.dtype).max
        return (white - self.pixels).astype(self.pixels.dtype)


def _content(path: str | Path) -> Content:
    """Return the bytes of a picture file that OpenCV may be able to read."""
    content = content_of(path)
    if content.kind != "picture":
        raise no_picture(path)
    return content


def _decoded(content: Content) -> _Decoded:
    """Decode a picture file, after its header was checked."""
    path, data = content.name, content.data
    with memory_for(path):
        _check_size(data, path)
        page = first_page(data)
        remarks = [] if page is None else _judged_bands(page, path)
        if holds_several(data, page):
            remarks.append("it holds several pictures, of which the first is taken")
        orientation = orientation_of(data, path)
        pixels = _decoded_pixels(data, path)
        # OpenCV inverts values of 8 bits or fewer itself, but not those of more.
        inverted = page is not None and page.photometric == WHITE_IS_ZERO and pixels.dtype.itemsize > 1
        return _Decoded(pixels, orientation, inverted, tuple(remarks))


def _judged_bands(page: TiffPage, path: str) -> list[str]:
    """Return remarks on the bands of a TIFF file.

    Raises:
        ImageError: the file has bands beside colours and alpha, and OpenCV would drop some without a word.
    """
    others = page.bands_beside
    if others == 1 and page.photometric == RGB and page.samples == 4:
        return ["its fourth band is not said to be alpha, but is taken for it and laid over white"]
    if others:
        raise ImageError(
            f"{path}: has {page.samples} bands, more than a photo's colours; save those that the model wants as an RGB "
            f"or grey picture, or {READY}"
        )
    return []


def _decoded_pixels(data: bytes, path: str) -> NDArray[Any]:
    """Decode a file's content with OpenCV, as it is: [H,W] or [H,W,1..4] of any type, BGR, not turned upright."""
    cv2 = opencv()
    try:
        # UNCHANGED keeps alpha and depth, and implies IGNORE_ORIENTATION.
        pixels: NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        if is_no_memory(error):
            raise
        raise ImageError(f"{path}: OpenCV cannot read this picture: {first_line(error)}") from error
    if pixels is None:
        raise no_picture(path)
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise _too_large(path, pixels.shape[1], pixels.shape[0])
    if pixels.ndim == 3 and pixels.shape[2] not in (1, 2, 3, 4):
        raise ImageError(f"{path}: has {pixels.shape[2]} channels; save it as an RGB or grey picture")
    return pixels


def as_image(array: Any) -> ImageRGB:
    """Check a picture that the caller holds as an array, and return it as [H,W,3] uint8 RGB, contiguous.

    The array is [H,W,3] (RGB), [H,W] or [H,W,1] (grey) or [H,W,4] (RGBA, which is laid over white). It is never
    changed; where nothing needs converting the result shares its memory.

    Raises:
        ImageError: the array has another type, dtype or shape, no pixels, or more than `MAX_PIXELS`.
    """
    if not isinstance(array, np.ndarray):
        raise ImageError(
            f"a picture must be a path or a NumPy array [H,W,3] of uint8 in RGB order, not {type(array).__name__}"
            " (for a PIL image: numpy.asarray(image.convert('RGB')))"
        )
    if array.dtype != np.uint8:
        hint = "; for values 0..1: (x * 255).round().astype('uint8')" if array.dtype.kind == "f" else ""
        raise ImageError(f"a picture array must hold uint8 (0..255), not {array.dtype}{hint}")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        hint = "; move the channels last: x.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise ImageError(f"a picture array must be [H,W,3] in RGB order, not {list(array.shape)}{hint}")
    if array.size == 0:
        raise ImageError(f"a picture array without pixels: {list(array.shape)}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise _too_large("a picture array", array.shape[1], array.shape[0])
    return np.ascontiguousarray(to_rgb(array))


def _check_size(data: bytes, path: str) -> None:
    """Make sure, before anything is decoded, that a picture has a size that can be read.

    Raises:
        ImageError: the file states no size, more than `MAX_PIXELS` pixels, or far more than it can hold.
    """
    kind = format_of(data[:32])
    size = None if kind is None else stated_size(data, kind)
    if size is None:
        raise no_picture(path)
    width, height = size
    if width * height > MAX_PIXELS:
        raise _too_large(path, width, height)
    if width * height > max(_BOMB_PIXELS, _BOMB_RATIO * len(data)):
        raise ImageError(
            f"{path}: states {width} x {height} pixels in only {len(data)} bytes; the file is damaged, or made to "
            "exhaust the memory"
        )


def _too_large(where: object, width: int, height: int) -> ImageError:
    """Return the error that a picture has more than `MAX_PIXELS` pixels."""
    return ImageError(f"{where}: {width} x {height} pixels is more than the limit of {MAX_PIXELS}; scale it down first")
