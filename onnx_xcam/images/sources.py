"""This module opens pictures from every kind of source, each with the same checks: files, bytes, arrays and images.

| source | what becomes of it |
|---|---|
| a path, or the bytes of a file, or a file that is open | decoded by its first bytes: pictures, .npy files, DICOM |
| an image of Pillow | its pixels, upright |
| an array or a tensor [H,W] or [H,W,C] | its values, as they are |
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from onnx_xcam.common.arguments import short_repr
from onnx_xcam.errors import ImageError
from onnx_xcam.images.arrays import ChannelOrder, array_in_npy, as_array, is_array, photo_of_array
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.content import content_of, is_open_file, name_of_file
from onnx_xcam.images.dicom import photo_of_dicom
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.pil_images import is_pil_image, name_of_pil_image, photo_of_pil_image
from onnx_xcam.images.read import decoded_photo


@dataclass(frozen=True)
class Named:
    """A Named is the source of a picture with a name of the caller's, which messages and results call it by."""

    source: Any
    name: str


class _OpenFile(Protocol):
    """An _OpenFile is a file that is open for reading bytes, or something else that is read like one."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, `size` at most."""


class _Array(Protocol):
    """An _Array is an array of NumPy or of a library that knows NumPy's protocol, such as a tensor."""

    def __array__(self) -> NDArray[Any]:
        """Return the values as an array of NumPy."""


class _PillowImage(Protocol):
    """A _PillowImage is an image of Pillow."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Return where its pixels are."""


PictureSource: TypeAlias = (
    str | os.PathLike[str] | bytes | bytearray | memoryview | _OpenFile | _Array | _PillowImage | Named
)
"""A PictureSource is where one picture comes from; see the table of this module."""


def is_source(source: object) -> bool:
    """Tell whether something is the source of one picture, and not a list or a stream of them."""
    return (
        isinstance(source, str | os.PathLike | bytes | bytearray | memoryview | Named)
        or is_array(source)
        or is_pil_image(source)
        or is_open_file(source)
    )


def name_of(source: Any, name: str) -> str:
    """Return what messages and results call a picture: its path where it has one, else `name`."""
    if isinstance(source, Named):
        return source.name
    if isinstance(source, str | os.PathLike):
        return str(source)
    if is_pil_image(source):
        return name_of_pil_image(source, name)
    return name_of_file(source, name) if is_open_file(source) else name


def opened(source: Any, name: str = "the image", channels: str | None = None) -> Photo | NDArray[Any]:
    """Return the photo in a source, or its array where that has four axes or more and may be a ready tensor.

    Args:
        source: see the table of this module.
        name: what messages call a source that has no name of its own.
        channels: "BGR" for arrays whose colours are in that order; "RGB" and None are the same.

    Raises:
        ImageError: the source is none, cannot be read, or is a file or an image that states its order itself.
    """
    name = name_of(source, name)
    source = source.source if isinstance(source, Named) else source
    order = _order(channels)
    with memory_for(name):
        if is_pil_image(source):
            _refuse_order(order, name)
            return photo_of_pil_image(source, name)
        if is_array(source):
            return _photo_or_tensor(as_array(source, name), name, order)
        if not is_source(source):
            raise ImageError(
                f"{name}: {short_repr(source)} is no picture; give a path, the bytes of a file, an open file, an array "
                "[H,W,3] of uint8 in RGB order, or an image of Pillow"
            )
        content = content_of(source, name)
        if content.kind == "npy":
            return _photo_or_tensor(as_array(array_in_npy(content.data, name), name), name, order)
        _refuse_order(order, name)
        return photo_of_dicom(content.data, name) if content.kind == "dicom" else decoded_photo(content)


def open_photo(source: Any, name: str = "the image", channels: str | None = None) -> Photo:
    """Return the photo in a source, as `opened` does.

    Raises:
        ImageError: as `opened`, or the source is an array of four axes or more.
    """
    photo = opened(source, name, channels)
    if isinstance(photo, Photo):
        return photo
    raise ImageError(f"{name_of(source, name)}: a picture array must be [H,W,3] in RGB order, not {list(photo.shape)}")


def _photo_or_tensor(array: NDArray[Any], name: str, order: ChannelOrder | None) -> Photo | NDArray[Any]:
    """Return the photo in an array, or the array if it has more axes than a picture."""
    if array.ndim < 4:
        return photo_of_array(array, name, order)
    if order is not None:
        raise ImageError(f"{name}: channels is of pictures [H,W,C]; an array {list(array.shape)} is fed as it is")
    return array


def _order(channels: Any) -> ChannelOrder | None:
    """Return the order of colours that was asked for, None for RGB."""
    if channels in (None, "RGB"):
        return None
    if isinstance(channels, str) and channels == "BGR":
        return "BGR"
    raise ImageError(f"channels is {short_repr(channels)}; it says the order of an array's colours: 'RGB' or 'BGR'")


def _refuse_order(order: ChannelOrder | None, name: str) -> None:
    """Raise an ImageError if an order of colours was said of something that states its own."""
    if order is not None:
        raise ImageError(f"{name}: channels is of arrays; a file or an image of Pillow states its order itself")
