"""This module reads the bytes of a picture from wherever they are: a file, an open file, or the memory.

The first bytes tell the format. What is no picture is refused before the rest is read, in a sentence that says what it
is instead; a picture is read up to `MAX_BYTES`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from onnx_xcam.common.files import is_folder, is_there, open_file
from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import MAX_PIXELS
from onnx_xcam.images.headers import format_of

MAX_BYTES = 4 * MAX_PIXELS + (1 << 20)
"""The largest file that is read: the largest picture in RGBA of 8 bits, not compressed, and a header."""
_START = 512
"""The format of a file is known by so many bytes at its start."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{1,20}):/|data:", re.ASCII)
"""Matches the start of an address, such as `https://` or `s3://`, also where a Path has made one slash of two."""

_BARE_DICOM = re.compile(rb"\x08\x00[\x00\x01\x05\x08\x12-\x18]\x00(?:[A-Z]{2}|[^\x00].?\x00\x00)", re.DOTALL)
"""Matches the start of a DICOM file without a preamble: an element of its first group, with its type or its length."""

Kind = Literal["picture", "npy", "dicom"]


class Content(NamedTuple):
    """A Content holds the bytes of a picture.

    Attributes:
        name: what messages call the picture: the path of its file, or what the caller calls it.
        data: all of its bytes.
        kind: "picture" for a format of `images.headers`, which OpenCV decodes; "npy" for NumPy's, and "dicom".
    """

    name: str
    data: bytes
    kind: Kind


def content_of(source: Any, name: str = "the image") -> Content:
    """Return the bytes of a picture, and its format.

    Args:
        source: the path of a file, the file's bytes, or a file that is open for reading bytes.
        name: what messages call bytes, or an open file that has no name.

    Raises:
        ImageError: there is no such file, it cannot be read, is empty, has more than `MAX_BYTES` bytes, or its first
            bytes are those of no picture.
    """
    if isinstance(source, str | os.PathLike):
        return _of_path(Path(source))
    if is_open_file(source):
        return _of_open_file(source, name_of_file(source, name))
    if memoryview(source).nbytes > MAX_BYTES:
        raise _too_long(name)
    data = bytes(source)
    return Content(name, data, _kind(data[:_START], name))


def is_open_file(source: object) -> bool:
    """Tell whether a source is an open file, or something else that is read like one."""
    return callable(getattr(source, "read", None))


def name_of_file(file: object, name: str) -> str:
    """Return the path by which a file was opened, or `name` for one that has none."""
    own = getattr(file, "name", None)
    return own if isinstance(own, str) and own else name


def _of_path(path: Path) -> Content:
    """Read a regular file; `open_file` refuses pipes and devices.

    The file is read by Python, since OpenCV on Windows fails at paths that are not ASCII.
    """
    try:
        if is_folder(path):
            raise ImageError(f"{path}: is a folder, not a picture")
        with open_file(path) as file:
            start, size = file.read(_START), os.fstat(file.fileno()).st_size
            kind = _kind(start, str(path))
            if size > MAX_BYTES:
                raise _too_long(str(path))
            file.seek(0)
            return Content(str(path), file.read(size), kind)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _cannot_read(path, error) from error


def _cannot_read(path: Path, error: OSError | ValueError) -> ImageError:
    """Return the error that says why a file cannot be read."""
    if not is_there(path) and (address := _ADDRESS.match(str(path))):
        return ImageError(f"{_short(str(path))}: {_about_address(address[1] or 'data')}")
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path}: no such file")
    return ImageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")


def _about_address(scheme: str) -> str:
    """Return what can be done about an address that was given in the place of a file, as a part of a sentence."""
    if scheme == "data":
        return "is a data address, not a file; decode it, and hand in its bytes (Python: explain(bytes))"
    if scheme == "file":
        return "is an address; give the path of the file alone"
    return "is an address, and nothing is downloaded; save the file and give its path, or hand in its bytes"


def _of_open_file(file: BinaryIO, name: str) -> Content:
    """Read an open file from its position to its end, up to the limit."""
    try:
        start = _read(file, _START, name)
        if not start:
            raise ImageError(f"{name}: nothing is left to read in this file; file.seek(0) goes back to its start")
        kind = _kind(start, name)
        rest = _read(file, MAX_BYTES + 1 - len(start), name)
    except (OSError, ValueError) as error:  # ValueError: it is closed
        raise ImageError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(start) + len(rest) > MAX_BYTES:
        raise _too_long(name)
    return Content(name, start + rest, kind)


def _read(file: BinaryIO, most: int, name: str) -> bytes:
    """Return what follows in an open file, `most` bytes at most; a pipe may give less than it is asked for at once."""
    parts: list[bytes] = []
    while most > 0 and (part := file.read(min(_PART, most))):
        if not isinstance(part, bytes):
            raise ImageError(f"{name}: the file gives {type(part).__name__}, not bytes; open it with open(path, 'rb')")
        parts.append(part)
        most -= len(part)
    return b"".join(parts)


_PART = 1 << 24
"""An open file is read in parts of so many bytes."""


def _kind(start: bytes, name: str) -> Kind:
    """Return the kind of a picture by its first bytes.

    Raises:
        ImageError: there are no bytes, or they are those of no picture.
    """
    if not start:
        raise ImageError(f"{name}: the file is empty (0 bytes)")
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start[128:132] == b"DICM":  # before the pictures, since the 128 bytes before may be a TIFF file's header
        return "dicom"
    if _BARE_DICOM.match(start):
        return "dicom"
    if start[4:8] == b"ftyp" and (what := _BRANDS.get(start[8:12])):
        raise ImageError(f"{name}: is {what}")
    if format_of(start) is not None:
        return "picture"
    for at, magic, what in _OTHERS:
        if start.startswith(magic, at):
            raise ImageError(f"{name}: is {what}")
    raise no_picture(name)


_TO_SAVE = "which OpenCV does not read; save it as JPEG or PNG, or hand in a PIL image"
_PAGE = "a web page or an SVG drawing, not a picture of pixels; if it should be a photo, its download went wrong"
_VOLUME = "which is not supported; save the slice that the model takes as .npy or TIFF"
_OTHERS = (
    (0, b"\x1f\x8b", f"packed with gzip; unpack it first (a NIfTI volume is one, {_VOLUME})"),
    (0, b"PK\x03\x04", "a zip archive, such as an .npz; give a picture, or one array in a .npy file"),
    (0, b"%PDF", "a PDF document; save its page as a PNG"),
    (0, b"<", _PAGE),
    (0, b"\xef\xbb\xbf<", _PAGE),
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself; get it with git lfs pull"),
    (0, b"\xff\x0a", f"a JPEG XL picture, {_TO_SAVE}"),
    (0, b"\0\0\0\x0cJXL ", f"a JPEG XL picture, {_TO_SAVE}"),
    (344, b"n+1\0", f"a NIfTI volume, {_VOLUME}"),
    (344, b"ni1\0", f"the header of a NIfTI volume, {_VOLUME}"),
    (0, b"NRRD000", f"an NRRD volume, {_VOLUME}"),
    (0, b"\x89HDF", "an HDF5 file; save the picture in it as .npy or TIFF"),
)
"""What files that are no pictures begin with, where, and what they are."""
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), f"a HEIC picture, {_TO_SAVE}"),
    **dict.fromkeys(
        (b"isom", b"iso2", b"mp41", b"mp42", b"avc1", b"M4V ", b"qt  "),
        "a video; save the frame that is to be explained as a picture",
    ),
}
"""What files of the ISO base media format are, by their major brand (ISO/IEC 14496-12, 23008-12)."""


def no_picture(name: object) -> ImageError:
    """Return the error that a file is not a picture, or a damaged one."""
    return ImageError(f"{name}: not a picture that OpenCV can read, or a damaged or truncated one")


def _too_long(name: str) -> ImageError:
    """Return the error that a file has more than `MAX_BYTES` bytes."""
    return ImageError(f"{name}: the file has more than {MAX_BYTES >> 20} MiB; scale the picture down first")


def _short(address: str) -> str:
    """Return an address as messages show it: with both of its slashes, of which a `Path` keeps one, and cut if long."""
    address = re.sub(r"^(?!data:)([^/:]+):/(?=[^/])", r"\1://", address)
    return address if len(address) <= 200 else f"{address[:200]}…"


MAX_DECODED = 8 * MAX_PIXELS
"""The largest picture that is decoded, in bytes: the most pixels, in RGBA of 16 bits."""
_BOMB_PIXELS, _BOMB_RATIO = 2**25, 1000
"""A picture of more than _BOMB_PIXELS must have a byte in its file for every _BOMB_RATIO pixels; a photo has one for
every ten."""
_BOMB_DECODED, _BOMB_PACKING = 2**28, 200
"""A picture of more than _BOMB_DECODED bytes, once decoded, must have a byte in its file for every _BOMB_PACKING of
them; a photo has one for every thirty, and Deflate makes one of 1032 at most."""


def require_size(width: int, height: int, length: int | None, name: object, pixel_bytes: int = 1) -> None:
    """Raise an ImageError if a picture has more than `MAX_PIXELS` pixels, or far more than its file can hold.

    Args:
        width, height: the size that the picture states.
        length: the length of the file from which it is still to be decoded, in bytes; None for one in memory.
        name: what messages call the picture.
        pixel_bytes: the bytes that a pixel takes once it is decoded.
    """
    pixels, decoded = width * height, width * height * pixel_bytes
    if pixels > MAX_PIXELS:
        raise ImageError(
            f"{name}: {width} x {height} pixels is more than the limit of {MAX_PIXELS}; scale it down first"
        )
    if length is None:
        return
    if pixels > max(_BOMB_PIXELS, _BOMB_RATIO * length) or decoded > max(_BOMB_DECODED, _BOMB_PACKING * length):
        each = f" of {pixel_bytes} bytes" if pixel_bytes > 4 else ""
        raise ImageError(
            f"{name}: states {width} x {height} pixels{each} in only {length} bytes; the file is damaged, or made to "
            "exhaust the memory (scale it down if it is a drawing)"
        )
    if decoded > MAX_DECODED:
        raise ImageError(
            f"{name}: {width} x {height} pixels of {pixel_bytes} bytes each are more than the limit of "
            f"{MAX_DECODED >> 20} MiB; scale it down first, or cut it into smaller pictures"
        )
