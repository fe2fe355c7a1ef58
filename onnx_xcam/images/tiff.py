"""What a TIFF file says of its first picture, read off its tags: bands, what they are, and whether more follow."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

_PHOTOMETRIC, _SAMPLES, _EXTRA = 262, 277, 338
_SIZES = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}
"""Format and bytes of the types of numbers that the tags read here may have."""
_MOST_TAGS = 4096
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""How many bands are colours, by the photometric interpretation: white or black is 0, RGB, palette, mask, CMYK, ..."""
_ALPHA = (1, 2)
WHITE_IS_ZERO, RGB = 0, 2


@dataclass(frozen=True)
class TiffPage:
    """The first picture of a TIFF file.

    Attributes:
        samples: the number of bands.
        photometric: how they are to be read; see the standard (TIFF 6.0).
        extra: what the bands beside the colours are: 0 unknown, 1 and 2 alpha.
        is_first_of_several: another picture follows.
    """

    samples: int = 1
    photometric: int = 1
    extra: tuple[int, ...] = ()
    is_first_of_several: bool = False

    @property
    def colours(self) -> int:
        """How many of the bands are colours."""
        return _COLOURS.get(self.photometric, self.samples)

    @property
    def bands_beside(self) -> int:
        """How many bands are neither colours nor alpha, of which the file tells that they are something else."""
        alpha = sum(kind in _ALPHA for kind in self.extra)
        return max(0, self.samples - self.colours - alpha)


def first_page(data: bytes) -> TiffPage | None:
    """What the tags of the first picture say; None for a file that is no TIFF, or a damaged one."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        tags, following = _directory(data, order)
    except (struct.error, OverflowError):
        return None
    samples = tags.get(_SAMPLES, (1,))[0]
    photometric = tags.get(_PHOTOMETRIC, (1,))[0]
    return TiffPage(samples, photometric, tags.get(_EXTRA, ()), following != 0)


def _directory(data: bytes, order: str) -> tuple[Mapping[int, tuple[int, ...]], int]:
    """The tags of the first directory that are read here, and where the next directory begins, 0 if nowhere."""
    (version,) = struct.unpack_from(order + "H", data, 2)
    big = version == 43
    count_at, count_form, word = (8, "Q", "Q") if big else (4, "H", "I")
    (start,) = struct.unpack_from(order + word, data, count_at)
    (count,) = struct.unpack_from(order + count_form, data, start)
    at, size = start + struct.calcsize(order + count_form), 20 if big else 12
    if version not in (42, 43) or count > _MOST_TAGS:
        return {}, 0
    found = {}
    for entry in range(at, at + count * size, size):
        tag, kind, length = struct.unpack_from(order + "HH" + word, data, entry)
        if tag in (_PHOTOMETRIC, _SAMPLES, _EXTRA) and kind in _SIZES and 0 < length <= _MOST_TAGS:
            form, each = _SIZES[kind]
            place = entry + struct.calcsize(order + "HH" + word)
            if each * length > struct.calcsize(order + word):
                (place,) = struct.unpack_from(order + word, data, place)
            found[tag] = struct.unpack_from(f"{order}{length}{form}", data, place)
    (following,) = struct.unpack_from(order + word, data, at + count * size)
    return found, following
