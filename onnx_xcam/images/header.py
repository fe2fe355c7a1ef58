"""What a picture file's first bytes tell: its size, its orientation, and whether its end is missing.

Read by hand because OpenCV gives no size before it decodes, drops the orientation where it keeps the alpha channel,
knows the orientation of WebP and AVIF in no or only new versions, and before version 5 hands out a truncated JPEG as
if it were whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE_MARKERS = frozenset(range(0xD0, 0xD9)) | {0x01}
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class Header:
    """Size in pixels as stored (0 where not told), EXIF orientation 1..8 still to be applied, missing end."""

    width: int = 0
    height: int = 0
    orientation: int = 1
    truncated: bool = False


def read_header(data: bytes) -> Header:
    """The header of the picture in `data`; an empty `Header()` for formats that are not looked into."""
    for magic, at, reader in _READERS:
        if data[at : at + len(magic)] == magic:
            try:
                return reader(data)
            except (struct.error, IndexError):
                return Header(truncated=True)
    return Header()


def _exif_orientation(tiff: bytes) -> int:
    """Orientation from an EXIF block (a small TIFF file, perhaps after `Exif\\0\\0`); 1 where it tells none."""
    tags = _tiff_tags(tiff.removeprefix(b"Exif\0\0"))
    orientation = tags.get(_ORIENTATION_TAG, 1)
    return orientation if 1 <= orientation <= 8 else 1


def _tiff_tags(tiff: bytes) -> dict[int, int]:
    """The short and long single values of a TIFF's first directory; what is damaged or out of reach is left out."""
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    tags: dict[int, int] = {}
    if order is None:
        return tags
    try:
        (start,) = struct.unpack_from(order + "I", tiff, 4)
        (count,) = struct.unpack_from(order + "H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, length = struct.unpack_from(order + "HHI", tiff, at)
            if length == 1 and kind in (3, 4):
                (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, at + 8)
    except struct.error:
        pass  # the directory ends early: the decoder, not this reader, judges the file
    return tags


def _jpeg(data: bytes) -> Header:
    width = height = 0
    orientation = 1
    at = 2
    while True:
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if data[at] != 0xFF or marker == 0xD9:
            return Header(width, height, orientation, truncated=width == 0)
        if marker in _JPEG_BARE_MARKERS:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _JPEG_SIZE_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
        elif marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 4 : at + 2 + length])
        elif marker == 0xDA:
            # Inside the scans 0xFF is always escaped, so that the end marker can only be the end.
            return Header(width, height, orientation, truncated=data.find(b"\xff\xd9", at) < 0)
        at += 2 + length


def _png(data: bytes) -> Header:
    width, height = struct.unpack_from(">II", data, 16)
    orientation = 1
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[at + 8 : at + 8 + length])
        if kind == b"IEND":
            return Header(width, height, orientation)
        at += 12 + length
    return Header(width, height, orientation, truncated=True)


def _webp(data: bytes) -> Header:
    width = height = 0
    orientation = 1
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        body = data[at + 8 : at + 8 + length]
        if kind == b"VP8X":
            width, height = (int.from_bytes(body[i : i + 3], "little") + 1 for i in (4, 7))
        elif kind == b"VP8 " and not width:
            width, height = (size & 0x3FFF for size in struct.unpack_from("<HH", body, 6))
        elif kind == b"VP8L" and not width:
            bits = int.from_bytes(body[1:5], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        elif kind == b"EXIF":
            orientation = _exif_orientation(body)
        at += 8 + length + length % 2
    return Header(width, height, orientation)


def _tiff(data: bytes) -> Header:
    tags = _tiff_tags(data)
    return Header(tags.get(256, 0), tags.get(257, 0))  # OpenCV turns a TIFF itself, whatever it is asked


def _bmp(data: bytes) -> Header:
    width, height = struct.unpack_from("<ii", data, 18)
    return Header(abs(width), abs(height))


def _gif(data: bytes) -> Header:
    return Header(*struct.unpack_from("<HH", data, 6))


def _avif(data: bytes) -> Header:
    """Size, rotation and mirroring are item properties: small boxes of fixed length near the start."""
    width = height = angle = 0
    head = data[: 1 << 16]
    if (at := head.find(b"ispe")) >= 0:
        width, height = struct.unpack_from(">II", head, at + 8)
    if (at := head.find(b"\0\0\0\x09irot")) >= 0:
        angle = head[at + 8] & 3
    orientation = (1, 8, 3, 6)[angle]
    if (at := head.find(b"\0\0\0\x09imir")) >= 0:
        orientation = ((4, 5, 2, 7), (2, 7, 4, 5))[head[at + 8] & 1][angle]
    return Header(width, height, orientation)


_READERS = (
    (b"\xff\xd8", 0, _jpeg),
    (b"\x89PNG\r\n\x1a\n", 0, _png),
    (b"WEBP", 8, _webp),
    (b"II*\0", 0, _tiff),
    (b"MM\0*", 0, _tiff),
    (b"GIF8", 0, _gif),
    (b"ftypavif", 4, _avif),
    (b"BM", 0, _bmp),
)
