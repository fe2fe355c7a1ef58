"""What a TIFF file says of its first picture, read off its tags: sizes, bands, and whether more pictures follow."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_SIZES = (256, 257, 322, 323)
"""Width and height of the picture, and of the tiles that it is cut into."""
_PHOTOMETRIC, _SAMPLES, _EXTRA = 262, 277, 338
_NUMBERS = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}
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


def stated_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Every width and height in the first directory: of the picture, and of the tiles that it is cut into.

    Raises:
        struct.error: the file ends within the directory's beginning or an entry.
    """
    directory = _Directory(data, "<" if data[:2] == b"II" else ">")
    found = {}
    for tag, kind, entry in directory.entries():
        if tag in _SIZES and kind in _NUMBERS:
            (found[tag],) = struct.unpack_from(directory.order + _NUMBERS[kind][0], data, directory.value_of(entry))
    width, height, tile_width, tile_height = (found.get(tag, 0) for tag in _SIZES)
    yield width, height
    if width and height:
        yield tile_width, tile_height


def first_page(data: bytes) -> TiffPage | None:
    """What the tags of the first picture say; None for a file that is no TIFF, or a damaged one."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        tags, following = _tags(data, order)
    except (struct.error, OverflowError):
        return None
    samples = tags.get(_SAMPLES, (1,))[0]
    photometric = tags.get(_PHOTOMETRIC, (1,))[0]
    return TiffPage(samples, photometric, tags.get(_EXTRA, ()), following != 0)


class _Directory:
    """The first directory of a TIFF or BigTIFF file.

    Attributes:
        order: the byte order, as `struct` writes it.
        is_known: whether the version is one of the two that there are.
        word: the type of lengths and of places in the file, as `struct` writes it.
        count: the number of entries that it states.
        end: where it ends by that number.

    Raises:
        struct.error: the file ends before its first entry.
    """

    def __init__(self, data: bytes, order: str) -> None:
        self._data, self.order = data, order
        (version,) = struct.unpack_from(order + "H", data, 2)
        self.is_known, big = version in (42, 43), version == 43
        self.word, self._size = ("Q", 20) if big else ("I", 12)
        (start,) = struct.unpack_from(order + self.word, data, 8 if big else 4)
        form = order + ("Q" if big else "H")
        (self.count,) = struct.unpack_from(form, data, start)
        self._start = start + struct.calcsize(form)
        self.end = self._start + self.count * self._size

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """Tag, type and place of each entry that lies within the file."""
        for entry in range(self._start, min(self.end, len(self._data)), self._size):
            yield (*struct.unpack_from(self.order + "HH", self._data, entry), entry)

    def value_of(self, entry: int) -> int:
        """Where an entry holds its value, or the place of it if it is too long."""
        return entry + struct.calcsize(self.order + "HH" + self.word)


def _tags(data: bytes, order: str) -> tuple[Mapping[int, tuple[int, ...]], int]:
    """The tags that tell of the bands, and where the next directory begins, 0 if nowhere."""
    directory = _Directory(data, order)
    word = order + directory.word
    if not directory.is_known or directory.count > _MOST_TAGS:
        return {}, 0
    found = {}
    for tag, kind, entry in directory.entries():
        (length,) = struct.unpack_from(word, data, entry + 4)
        if tag in (_PHOTOMETRIC, _SAMPLES, _EXTRA) and kind in _NUMBERS and 0 < length <= _MOST_TAGS:
            form, each = _NUMBERS[kind]
            place = directory.value_of(entry)
            if each * length > struct.calcsize(word):
                (place,) = struct.unpack_from(word, data, place)
            found[tag] = struct.unpack_from(f"{order}{length}{form}", data, place)
    (following,) = struct.unpack_from(word, data, directory.end)
    return found, following
