"""This module reads from the header of a picture file of what numbers its pixels consist, and which of them is white.

OpenCV hands on the numbers of some formats as they are, in a type with more bits. So white is what the format says:

| format | white | source |
|---|---|---|
| PGM, PPM, PAM | the maxval of the header | netpbm's pgm(5), ppm(5), pam(5): samples go from 0, black, to maxval |
| TIFF of 10, 12 or 14 bits | 2^BitsPerSample - 1 | TIFF 6.0, PhotometricInterpretation |
| AVIF | 2^bits - 1 of full range | AV1 Image File Format, `av1C` and `pixi`; libavif makes full range RGB |
| JPEG 2000 | 2^precision - 1 | ISO/IEC 15444-1, the marker SIZ |

The others use their type's whole range. Significant bits of a PNG (sBIT) change nothing, since samples are scaled to
their full range (PNG, 11.3.2.4 and 13.12), nor do TIFF's MaxSampleValue, which "is not to be used to affect the visual
appearance" (TIFF 6.0, section 8), and SMaxSampleValue, which states the range that occurs.
"""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

from onnx_xcam.images.tiff import first_page

_TEXT = 1 << 20
"""A header of text has to end within so many bytes."""
_PALETTE = 3
"""The photometric interpretation of a TIFF file with a palette, whose colours OpenCV decodes."""


class Samples(NamedTuple):
    """Samples say of what numbers the pixels of a picture consist once OpenCV has decoded them.

    Attributes:
        channels: how many numbers make a pixel, at most.
        bits: how many bits each has in the file, at most.
        white: the number that the format calls white, where it is not the largest of the type; else None.
    """

    channels: int
    bits: int
    white: int | None = None

    @property
    def pixel_bytes(self) -> int:
        """Return how many bytes a decoded pixel takes."""
        return self.channels * (1 if self.bits <= 8 else 2 if self.bits <= 16 else 4 if self.bits <= 32 else 8)


MOST = Samples(4, 32)
"""What the pixels of most formats are at most: red, green, blue and alpha as floats."""


def four_bytes(data: bytes) -> Samples:
    """Return the samples of formats of 8 bits with at most four channels."""
    del data
    return Samples(4, 8)


def four_floats(data: bytes) -> Samples:
    """Return the samples of formats of floating-point numbers."""
    del data
    return MOST


def jpeg(data: bytes) -> Samples:
    """Return the samples of a JPEG: OpenCV decodes no more than three components, of 8 bits."""
    del data
    return Samples(3, 8)


def png(data: bytes) -> Samples:
    """Return the samples of a PNG, by the bit depth and the colour type in its first chunk."""
    bits, colours = data[24], data[25]
    transparent = data.find(b"tRNS", 33, max(data.find(b"IDAT", 33), 33)) >= 0
    return Samples({0: 1, 2: 3}.get(colours, 4) if not transparent else 4, bits)


def avif(data: bytes) -> Samples:
    """Return the samples of an AVIF file, by the flags `high_bitdepth` and `twelve_bit` of its box `av1C`."""
    at = data.find(b"av1C")
    flags = data[at + 6] if at >= 0 else 0x60
    bits = 8 if not flags & 0x40 else 12 if flags & 0x20 else 10
    return Samples(4, bits, _white_of(bits))


def jpeg_2000(data: bytes) -> Samples:
    """Return the samples of JPEG 2000, by the number of components and the precision of each in the marker SIZ."""
    at = data.index(b"\xff\x4f\xff\x51")
    (count,) = struct.unpack_from(">H", data, at + 40)
    stated = {data[at + 42 + 3 * component] for component in range(count)}
    bits = max(1 + (precision & 0x7F) for precision in stated)
    is_plain = len(stated) == 1 and not max(stated) & 0x80
    return Samples(max(count, 1), bits, _white_of(bits) if is_plain else None)


def tiff(data: bytes) -> Samples:
    """Return the samples of the first picture in a TIFF file."""
    page = first_page(data)
    if page is None:
        return MOST
    bits = max(page.bits)
    return Samples(max(page.samples, 4 if page.photometric == _PALETTE else 1), bits, _white_of(bits))


def netpbm(data: bytes) -> Samples:
    """Return the samples of a PBM, PGM or PPM file.

    OpenCV stretches those of 8 bits that are written as text (P2, P3) to 0..255, but no others.
    """
    kind = data[1:2]
    if kind in b"14":
        return Samples(1, 8)
    match = re.match(rb"..(?:(?:\s|#[^\n]*\n)+(\d{1,18})){3}", data[:_TEXT], re.DOTALL)
    maxval = int(match[1]) if match else 65535
    white = None if maxval in (255, 65535) or (kind in b"23" and maxval < 255) else maxval
    return Samples(1 if kind in b"25" else 3, 8 if maxval < 256 else 16, white or None)


def pam(data: bytes) -> Samples:
    """Return the samples of a PAM file, by its DEPTH and MAXVAL."""
    header = dict(re.findall(rb"(?m)^\s*(DEPTH|MAXVAL)\s+(\d{1,18})", data[:_TEXT]))
    count, maxval = int(header.get(b"DEPTH", 4)), int(header.get(b"MAXVAL", 65535))
    return Samples(max(count, 1), 8 if maxval < 256 else 16, None if maxval in (0, 255, 65535) else maxval)


def _white_of(bits: int) -> int | None:
    """Return white of unsigned numbers of so many bits, None where it is the largest number of their type."""
    return (1 << bits) - 1 if 8 < bits < 16 else None
