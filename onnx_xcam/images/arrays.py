"""This module makes photos of arrays: NumPy's, those of other libraries, and those in .npy files.

A picture in an array has its channels last, [H,W] or [H,W,C], in any type of numbers; its values are handed on as they
are. Four channels of unsigned integers are RGBA.
"""

from __future__ import annotations

import io
import math
import sys
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from onnx_xcam.common.numpy_errors import DAMAGED_NPY
from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import without_warnings
from onnx_xcam.images.content import require_size
from onnx_xcam.images.display import type_white
from onnx_xcam.images.photo import Photo

ChannelOrder = Literal["RGB", "BGR"]

_PHOTO_CHANNELS = (1, 3, 4)
_MOST_AXES = 32
"""NumPy 1 knows arrays of so many axes."""
_REFUSALS = (TypeError, ValueError, RuntimeError, AttributeError)
"""What libraries raise where an array cannot become NumPy's: it is on another device, or of a type of theirs."""


def is_array(source: object) -> bool:
    """Tell whether a source is an array of NumPy or of a library that knows NumPy's protocol, such as a tensor."""
    return hasattr(source, "__array__")


def as_array(source: Any, name: str) -> NDArray[Any]:
    """Return an array of any library as NumPy's, in a type of numbers with the processor's own byte order.

    A tensor of PyTorch is detached and copied to the processor's memory first; no data are copied otherwise.

    Raises:
        ImageError: the array cannot be converted, is masked, or holds something else than real numbers.
    """
    if isinstance(source, np.ma.MaskedArray):
        raise ImageError(f"{name}: a masked array does not say what its masked places show; fill them: x.filled(0)")
    try:
        if callable(getattr(source, "detach", None)) and callable(getattr(source, "cpu", None)):
            source = source.detach().cpu()
        array = np.asarray(source)
    except _REFUSALS as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ImageError(
            f"{name}: this {type(source).__name__} cannot become a NumPy array ({why}); convert it, for a tensor with "
            "x.detach().cpu().float().numpy()"
        ) from error
    if array.dtype.kind not in "uif":
        hint = "; for black and white: (x * 255).astype('uint8')" if array.dtype.kind == "b" else ""
        raise ImageError(f"{name}: a picture array must hold whole or floating-point numbers, not {array.dtype}{hint}")
    native = np.dtype(np.float64) if array.dtype.itemsize > 8 else array.dtype.newbyteorder("=")
    return array.astype(native, copy=False)


def photo_of_array(array: NDArray[Any], name: str, channels: ChannelOrder | None = None) -> Photo:
    """Return the photo in an array [H,W] or [H,W,C]; its memory is shared where that can be.

    Args:
        array: as `as_array` returns it.
        name: what messages call the picture.
        channels: the order of the colours of three or four channels; None is RGB.

    Raises:
        ImageError: the array has another shape, no pixels or more than `MAX_PIXELS`, or its channels have no order.
    """
    require_picture_shape(array.shape, name)
    pixels = array[..., None] if array.ndim == 2 else array
    count = pixels.shape[2]
    has_alpha = count == 4 and pixels.dtype.kind == "u"
    if channels == "BGR":
        if count not in _PHOTO_CHANNELS:
            raise ImageError(f"{name}: has {count} channels, which are in no order BGR; leave out channels")
        pixels = pixels if count == 1 else pixels[..., [2, 1, 0, 3][:count]]
    white = type_white(pixels.dtype) if pixels.dtype.kind in "uf" else None
    return Photo(np.ascontiguousarray(pixels), has_alpha, white)


def require_picture_shape(shape: tuple[int, ...], name: str) -> None:
    """Raise an ImageError unless this is the shape of a picture, [H,W] or [H,W,C], of a size that can be read."""
    if len(shape) not in (2, 3):
        hint = "; a list or a batch of pictures is given picture by picture" if len(shape) == 4 else ""
        raise ImageError(f"{name}: a picture array must be [H,W,3] in RGB order, not {list(shape)}{hint}")
    if 0 in shape:
        raise ImageError(f"{name}: a picture array without pixels: {list(shape)}")
    if len(shape) == 3 and shape[0] in _PHOTO_CHANNELS and shape[2] not in _PHOTO_CHANNELS:
        raise ImageError(
            f"{name}: a picture array must be [H,W,3] in RGB order, not {list(shape)}; move the channels last: "
            "x.transpose(1, 2, 0), for a tensor x.permute(1, 2, 0) (or, if it is preprocessed already, add the axis of "
            "images: x[None])"
        )
    require_size(shape[1], shape[0], None, name)


def array_in_npy(data: bytes, name: str) -> NDArray[Any]:
    """Return the array in the bytes of a .npy file, which it shares; nothing in it is evaluated or unpickled.

    Raises:
        ImageError: the header is damaged, states more bytes than follow, or Python objects.
    """
    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        if version not in ((1, 0), (2, 0)):
            raise ImageError(f"{name}: is a .npy file of version {version[0]}.{version[1]}, which is not read")
        with without_warnings():  # of headers that Python 2 wrote, which are read
            shape, by_columns, dtype = read_header(stream)
    except DAMAGED_NPY as error:
        raise ImageError(f"{name}: the header of this .npy file is damaged; write it with numpy.save") from error
    if dtype.hasobject or dtype.itemsize == 0:
        raise ImageError(f"{name}: this .npy file holds {dtype}, not numbers")
    if not all(type(side) is int for side in shape) or len(shape) > _MOST_AXES or max(shape, default=0) > sys.maxsize:
        raise ImageError(f"{name}: the header of this .npy file states an impossible shape; write it with numpy.save")
    length, follow = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if min(shape, default=0) < 0 or length > follow:
        raise ImageError(
            f"{name}: states {list(shape)} numbers of {dtype}, but only {follow} bytes follow; the file is damaged or "
            "truncated"
        )
    array = np.frombuffer(data, dtype, math.prod(shape), stream.tell())
    return array.reshape(shape, order="F" if by_columns else "C")
