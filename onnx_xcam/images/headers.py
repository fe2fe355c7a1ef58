"""This module reads the size of a picture from the header of its file, before anything is decoded.

A decoder asks for memory by what a header says, and a file of a thousand bytes can say anything. So a file is decoded
only if its size is known beforehand, from the fields that OpenCV's decoders read themselves: no other library is asked,
since it might refuse a header that OpenCV takes. Where a file states several sizes, the largest counts. Each function
that is named after a format yields every (width, height) that a file of that format states.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from onnx_xcam.images import samples, tiff
from onnx_xcam.images.samples import Samples

Sizes = Iterator[tuple[int, int]]
"""The (width, height) pairs that a file states."""


class Format(NamedTuple):
    """A Format is a kind of picture file.

    Attributes:
        at, magic: the position of the bytes that identify the format, and these bytes.
        sizes: yields the widths and heights that a file states.
        samples: returns of what numbers its pixels consist.
    """

    at: int
    magic: bytes
    sizes: Callable[[bytes], Sizes]
    samples: Callable[[bytes], Samples]


def format_of(start: bytes) -> Format | None:
    """Return the format of a file by its first bytes (32 are enough), or None for one that is not known here."""
    return next((one for one in _FORMATS if start.startswith(one.magic, one.at)), None)


def stated_size(data: bytes, kind: Format) -> tuple[int, int] | None:
    """Return the width and height of the largest picture that a file states, or None where its header is damaged."""
    try:
        sizes = [size for size in kind.sizes(data) if min(size) > 0]
    except (struct.error, IndexError, ValueError):  # ValueError: numbers of thousands of digits
        return None
    return max(sizes, key=lambda size: size[0] * size[1], default=None)


def stated_samples(data: bytes, kind: Format) -> Samples:
    """Return of what numbers a file's pixels consist; where its header is damaged, as many as OpenCV may make."""
    try:
        return kind.samples(data)
    except (struct.error, IndexError, ValueError):
        return samples.MOST


def _png(data: bytes) -> Sizes:
    """The size in the first chunk, unless a chunk states more bytes than follow: OpenCV asks for as many at once."""
    if all(end <= len(data) + 4 for _, _, end in _chunks(data)):
        yield struct.unpack_from(">II", data, 16)


def without_long_texts(data: bytes) -> bytes:
    """Return a picture file, without its texts if it is a PNG with more than `_LONGEST_TEXTS` bytes of them.

    OpenCV unpacks them all, to up to a thousand times their length, and nothing here reads them.
    """
    if not data.startswith(b"\x89PNG"):
        return data
    texts = [(at, end) for kind, at, end in _chunks(data) if kind in (b"tEXt", b"zTXt", b"iTXt")]
    if sum(end - at for at, end in texts) <= _LONGEST_TEXTS:
        return data
    edges = [0, *(edge for text in texts for edge in text), len(data)]
    return b"".join(data[at:end] for at, end in zip(edges[::2], edges[1::2], strict=True))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk of a PNG, where it begins, and where it ends, up to IEND or `_MOST_CHUNKS`."""
    at = 8
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        yield kind, at, at + 12 + length
        if kind == b"IEND":
            return
        at += 12 + length


def _jpeg(data: bytes) -> Sizes:
    """Yield the size in each frame header."""
    for _, at in _frames_of_jpeg(data):
        height, width = struct.unpack_from(">HH", data, at + 5)
        yield width, height


def _frames_of_jpeg(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield the marker and the place of each frame header; the segments before it state their lengths, and are skipped.

    The walk ends where the first scan begins.
    """
    at = 2
    while at + 9 <= len(data):
        if data[at] != 0xFF:  # OpenCV's decoder looks for the next marker, too
            at = data.find(b"\xff", at)
            if at < 0:
                return
            continue
        marker = data[at + 1]
        if marker == 0xDA:
            return
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:  # 0xF7: JPEG-LS
            yield marker, at
        alone = marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8
        at += (1 if marker == 0xFF else 2) if alone else 2 + max(2, struct.unpack_from(">H", data, at + 2)[0])


def jpeg_bits(data: bytes) -> int | None:
    """Return the bits of a JPEG's samples, as its first frame header states them, or None where there is none."""
    headers = re.finditer(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]..(.)", data[:_TEXT], re.DOTALL)
    return next((header[1][0] for header in headers), None)


def scans_of_jpeg(data: bytes) -> int:
    """Return the number of scans of a progressive JPEG; 1 for one that is not progressive."""
    is_progressive = any(marker in (0xC2, 0xC6, 0xCA, 0xCE) for marker, _ in _frames_of_jpeg(data))
    return data.count(b"\xff\xda") if is_progressive else 1


def _bmp(data: bytes) -> Sizes:
    (length,) = struct.unpack_from("<i", data, 14)
    width, height = struct.unpack_from("<HH" if length == 12 else "<ii", data, 18)
    yield abs(width), abs(height)


def _gif(data: bytes) -> Sizes:
    yield struct.unpack_from("<HH", data, 6)


def _webp(data: bytes) -> Sizes:
    kind = data[12:16]
    if kind == b"VP8X":
        yield 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    elif kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        yield 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    elif kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        yield width & 0x3FFF, height & 0x3FFF


def _avif(data: bytes) -> Sizes:
    for match in re.finditer(rb"ispe\0\0\0\0(.{8})", data, re.DOTALL):
        yield struct.unpack(">II", match[1])


def _jpeg_2000(data: bytes) -> Sizes:
    """Yield the size in each code stream's marker."""
    for match in re.finditer(rb"\xff\x4f\xff\x51(.{20})", data, re.DOTALL):
        _, _, right, bottom, left, top = struct.unpack(">HHIIII", match[1])
        yield right - left, bottom - top


def _code_stream(data: bytes) -> Sizes:
    """Yield the size of a JPEG 2000 code stream without a file around it, which begins with the marker of its size."""
    yield from _jpeg_2000(data[:_SIZ])


def _netpbm(data: bytes) -> Sizes:
    """Yield the size of PBM, PGM, PPM (P1 to P6) and PFM files: two numbers, perhaps with comments between them."""
    if match := re.match(rb"..(?:\s|#[^\n]*\n)*(\d{1,18})(?:\s|#[^\n]*\n)+(\d{1,18})", data[:_TEXT], re.DOTALL):
        yield int(match[1]), int(match[2])


def _pam(data: bytes) -> Sizes:
    """Yield the size of a PAM file (P7), whose header has lines of names and numbers."""
    sides = {key: int(value) for key, value in re.findall(rb"(?m)^\s*(WIDTH|HEIGHT)\s+(\d{1,18})", data[:_TEXT])}
    yield sides.get(b"WIDTH", 0), sides.get(b"HEIGHT", 0)


def _radiance(data: bytes) -> Sizes:
    for height, width in re.findall(rb"[-+]Y\s+(\d{1,18})\s+[-+]X\s+(\d{1,18})", data[:_TEXT]):
        yield int(width), int(height)


def _sun(data: bytes) -> Sizes:
    yield struct.unpack_from(">II", data, 4)


def _open_exr(data: bytes) -> Sizes:
    for match in re.finditer(rb"dataWindow\0box2i\0.{4}(.{16})", data[:_TEXT], re.DOTALL):
        left, top, right, bottom = struct.unpack("<iiii", match[1])
        yield right - left + 1, bottom - top + 1


_MOST_CHUNKS = 1 << 20
"""So many chunks of a PNG are looked at; encoders make a chunk for every 8 KiB."""
_LONGEST_TEXTS = 1 << 16
"""So many bytes of texts in a PNG are handed on to OpenCV."""
_SIZ = 24
"""The first bytes of a JPEG 2000 code stream, up to the sides of the picture."""
_TEXT = 1 << 20
"""A header of text has to end within so many bytes."""

_FORMATS = (
    Format(0, b"\xff\xd8\xff", _jpeg, samples.jpeg),
    Format(0, b"\x89PNG\r\n\x1a\n", _png, samples.png),
    Format(0, b"BM", _bmp, samples.four_bytes),
    Format(0, b"GIF8", _gif, samples.four_bytes),
    Format(8, b"WEBP", _webp, samples.four_bytes),
    Format(4, b"ftyp", _avif, samples.avif),
    Format(0, b"\0\0\0\x0cjP  ", _jpeg_2000, samples.jpeg_2000),
    Format(0, b"\xff\x4f\xff\x51", _code_stream, samples.jpeg_2000),
    Format(0, b"II", tiff.stated_sizes, samples.tiff),
    Format(0, b"MM", tiff.stated_sizes, samples.tiff),
    Format(0, b"P7", _pam, samples.pam),
    *(Format(0, b"P" + letter, _netpbm, samples.netpbm) for letter in (b"1", b"2", b"3", b"4", b"5", b"6")),
    *(Format(0, b"P" + letter, _netpbm, samples.four_floats) for letter in (b"F", b"f")),
    Format(0, b"#?", _radiance, samples.four_floats),
    Format(0, b"\x59\xa6\x6a\x95", _sun, samples.four_bytes),
    Format(0, b"\x76\x2f\x31\x01", _open_exr, samples.four_floats),
)
