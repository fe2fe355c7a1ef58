"""This module reads the tags of a TIFF file: sizes, bands and data of its first picture, and whether more follow."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_SIZES = (256, 257, 322, 323)
"""The tags of width and height of the picture, and of the tiles that it is cut into."""
_PHOTOMETRIC, _SAMPLES, _EXTRA, _PLANAR, _FORMAT, _BITS, _ORIENTATION = 262, 277, 338, 284, 339, 258, 274
"""The tags of the photometric interpretation, the number of bands, the kinds of extra bands, whether the bands lie
behind each other, the kind of number, its bits, and the orientation."""
_OF_PAGE = (_PHOTOMETRIC, _SAMPLES, _EXTRA, _PLANAR, _FORMAT, _BITS, _ORIENTATION)
_NUMBERS = {1: ("B", 1), 3: ("H", 2), 4: ("I", 4), 16: ("Q", 8)}
"""The types of numbers that the tags may have: by TIFF's code, the format of `struct` and the length in bytes."""
_MOST_TAGS = 4096
"""A directory with more entries, or an entry with more values, is passed over as damaged."""
_MOST_PIECES = 1 << 20
"""A picture is cut into at most so many strips or tiles."""
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 4: 1, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}
"""The number of bands that are colours, by the photometric interpretation: 0 is white, 0 is black, RGB, palette, ..."""
_ALPHA = (1, 2)
"""The kinds of extra bands that are alpha."""
WHITE_IS_ZERO, RGB = 0, 2


@dataclass(frozen=True)
class TiffPage:
    """A TiffPage says what the tags of the first picture of a TIFF file state.

    Attributes:
        samples: the number of bands.
        photometric: the photometric interpretation of the bands, a number of the standard (TIFF 6.0).
        extra: the kinds of the bands beside the colours: 0 unknown, 1 and 2 alpha.
        planar: 2 where the bands lie behind each other in the file, else 1.
        format: the kind of number: 1 unsigned, 2 signed, 3 float.
        bits: the number of bits of each band.
        orientation: the orientation of the picture, as EXIF counts it.
    """

    samples: int = 1
    photometric: int = 1
    extra: tuple[int, ...] = ()
    planar: int = 1
    format: int = 1
    bits: tuple[int, ...] = (1,)
    orientation: int = 1

    @property
    def colours(self) -> int:
        """Return how many of the bands are colours."""
        return _COLOURS.get(self.photometric, self.samples)

    @property
    def has_alpha(self) -> bool:
        """Tell whether the last band is said to be alpha."""
        return bool(self.extra) and self.extra[-1] in _ALPHA

    @property
    def bands_beside(self) -> int:
        """Return how many of the bands are neither colours nor alpha."""
        alpha = sum(kind in _ALPHA for kind in self.extra)
        return max(0, self.samples - self.colours - alpha)


def stated_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield every width and height in the first directory: of the picture, and of the tiles that it is cut into.

    Raises:
        struct.error: the file ends within the directory's beginning or an entry.
    """
    directory = _Directory(data, "<" if data[:2] == b"II" else ">")
    sides = {}
    for tag, kind, entry in directory.entries():
        if tag in _SIZES and kind in _NUMBERS:
            (sides[tag],) = struct.unpack_from(directory.order + _NUMBERS[kind][0], data, directory.value_of(entry))
    width, height, tile_width, tile_height = (sides.get(tag, 0) for tag in _SIZES)
    yield width, height
    if width and height:
        yield tile_width, tile_height


def first_page(data: bytes) -> TiffPage | None:
    """Return what the tags of the first picture state; None for a file that is no TIFF, or a damaged one."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return None
    try:
        tags, _ = _tags(data, order)
    except (struct.error, OverflowError):
        return None
    first = {tag: values[0] for tag, values in tags.items()}
    return TiffPage(
        samples=first.get(_SAMPLES, 1),
        photometric=first.get(_PHOTOMETRIC, 1),
        extra=tags.get(_EXTRA, ()),
        planar=first.get(_PLANAR, 1),
        format=first.get(_FORMAT, 1),
        bits=tags.get(_BITS, (1,)),
        orientation=first.get(_ORIENTATION, 1),
    )


def count_pages(data: bytes, most: int) -> int:
    """Return the number of pictures in a TIFF file, counted up to a bound and to where the file is damaged."""
    order = "<" if data[:2] == b"II" else ">"
    starts: set[int] = set()
    start: int | None = None
    while len(starts) < most:
        try:
            directory = _Directory(data, order, start)
            if not directory.is_known or directory.start in starts:
                break
            starts.add(directory.start)
            (start,) = struct.unpack_from(order + directory.word, data, directory.end)
        except (struct.error, OverflowError):
            break
        if start == 0:
            break
    return max(1, len(starts))


def all_tags(data: bytes) -> tuple[str, Mapping[int, tuple[int, ...]]] | None:
    """Return the byte order, as `struct` writes it, and all tags that are numbers; None for a damaged file."""
    order = "<" if data[:2] == b"II" else ">"
    try:
        return order, _tags(data, order, None)[0]
    except (struct.error, OverflowError):
        return None


class _Directory:
    """A _Directory is a directory of a TIFF or BigTIFF file, the first one or the one at an offset.

    Attributes:
        order: the byte order, as `struct` writes it.
        is_known: whether the version is that of TIFF (42) or BigTIFF (43).
        word: the type of lengths and of offsets in the file, as `struct` writes it.
        start: where the directory begins.
        count: the number of entries that the directory states.
        end: where the directory ends by that number.

    Raises:
        struct.error: the file ends before its first entry.
    """

    def __init__(self, data: bytes, order: str, start: int | None = None) -> None:
        self._data, self.order = data, order
        (version,) = struct.unpack_from(order + "H", data, 2)
        self.is_known, big = version in (42, 43), version == 43
        self.word, self._size = ("Q", 20) if big else ("I", 12)
        (first,) = struct.unpack_from(order + self.word, data, 8 if big else 4)
        self.start = first if start is None else start
        form = order + ("Q" if big else "H")
        (self.count,) = struct.unpack_from(form, data, self.start)
        self._entries = self.start + struct.calcsize(form)
        self.end = self._entries + self.count * self._size

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """Yield the tag, the type and the offset of each entry that lies within the file."""
        for entry in range(self._entries, min(self.end, len(self._data)), self._size):
            yield (*struct.unpack_from(self.order + "HH", self._data, entry), entry)

    def value_of(self, entry: int) -> int:
        """Return the offset in the file where an entry holds its value, or the offset of a value that is too long."""
        return entry + struct.calcsize(self.order + "HH" + self.word)


def _tags(
    data: bytes, order: str, wanted: tuple[int, ...] | None = _OF_PAGE
) -> tuple[Mapping[int, tuple[int, ...]], int]:
    """Return the tags that are wanted, or all, and the offset of the next directory, 0 if there is none."""
    directory = _Directory(data, order)
    word = order + directory.word
    if not directory.is_known or directory.count > _MOST_TAGS:
        return {}, 0
    tags = {}
    for tag, kind, entry in directory.entries():
        (length,) = struct.unpack_from(word, data, entry + 4)
        most = _MOST_TAGS if tag in _OF_PAGE else _MOST_PIECES
        if (wanted is None or tag in wanted) and kind in _NUMBERS and 0 < length <= most:
            form, each = _NUMBERS[kind]
            place = directory.value_of(entry)
            if each * length > struct.calcsize(word):
                (place,) = struct.unpack_from(word, data, place)
            tags[tag] = struct.unpack_from(f"{order}{length}{form}", data, place)
    (following,) = struct.unpack_from(word, data, directory.end)
    return tags, following
