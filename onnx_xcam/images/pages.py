"""This module tells whether a picture file holds several pictures: pages, or frames of an animation."""

from __future__ import annotations

from onnx_xcam.images.tiff import TiffPage

_EXTENSION, _IMAGE = 0x21, 0x2C


def holds_several(data: bytes, page: TiffPage | None) -> bool:
    """Tell whether another picture follows the first one in a file.

    Args:
        data: the file's content.
        page: the first picture's tags if it is a TIFF file, else None.
    """
    if page is not None:
        return page.is_first_of_several
    if data.startswith(b"\x89PNG"):
        control = data.find(b"acTL", 8, data.find(b"IDAT"))
        return control > 0 and int.from_bytes(data[control + 4 : control + 8], "big") > 1
    if data[8:12] == b"WEBP":
        return data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & 2)
    return data.startswith(b"GIF8") and _images_of_gif(data, most=2) > 1


def _images_of_gif(data: bytes, most: int) -> int:
    """Return the number of images in a GIF file, counted up to a bound and to where the file is damaged."""
    count, at = 0, 13 + _palette(data, 10)
    while count < most and at < len(data):
        if data[at] == _IMAGE:
            count += 1
            at = _behind_blocks(data, at + 11 + _palette(data, at + 9))
        elif data[at] == _EXTENSION:
            at = _behind_blocks(data, at + 2)
        else:
            break
    return count


def _palette(data: bytes, at: int) -> int:
    """Return the length in bytes of the palette that the flags at this position announce."""
    flags = data[at] if at < len(data) else 0
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _behind_blocks(data: bytes, at: int) -> int:
    """Return the position after the data blocks of a GIF file that begin here; a block of length 0 ends them."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1
