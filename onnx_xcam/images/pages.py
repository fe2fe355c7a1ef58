"""This module counts the pictures in a picture file: pages, or frames of an animation."""

from __future__ import annotations

from onnx_xcam.images.tiff import TiffPage, count_pages

_EXTENSION, _IMAGE = 0x21, 0x2C
_MOST = 10_000
"""Pictures are counted up to so many."""


def remark_on_pages(data: bytes, page: TiffPage | None) -> str | None:
    """Return the remark that a file holds several pictures, as a part of a sentence, or None where it holds one.

    Args:
        data: the file's content.
        page: the first picture's tags if it is a TIFF file, else None.
    """
    count = _pictures(data, page)
    if count is not None and count < 2:
        return None
    number = "several" if count is None or count >= _MOST else str(count)
    return f"it holds {number} pictures, of which the first is taken"


def _pictures(data: bytes, page: TiffPage | None) -> int | None:
    """Return the number of pictures in a file, `_MOST` for more; None for several of which the file states no number.

    Formats that hold one picture count as one, and so does what is damaged.
    """
    if page is not None:
        return count_pages(data, _MOST)
    if data.startswith(b"\x89PNG"):
        control = data.find(b"acTL", 8, data.find(b"IDAT"))
        return int.from_bytes(data[control + 4 : control + 8], "big") if control > 0 else 1
    if data[8:12] == b"WEBP":
        return None if data[12:16] == b"VP8X" and bool(data[20:21]) and bool(data[20] & 2) else 1
    return _images_of_gif(data, _MOST) if data.startswith(b"GIF8") else 1


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
