"""This module reads TIFF files that OpenCV refuses or takes only the first band of: any bands, and half floats.

OpenCV's TIFF decoder (libtiff) does undo any compression of one band. So a file of S bands that lie pixel by pixel is
handed to it as a grey picture that is S times as wide, which has the same rows of numbers; and of bands that lie behind
each other, each is handed to it as a grey picture. Differences between neighbours (the tag Predictor) are undone here,
since neighbours of the same band lie S numbers apart. TIFF 6.0, sections 3, 14 and 15; Adobe Photoshop TIFF Technical
Note 3 for the floating point predictor.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import first_line, is_no_memory, opencv
from onnx_xcam.images.content import MAX_DECODED
from onnx_xcam.images.tiff import RGB, TiffPage, all_tags

_GREY = (0, 1)
_WIDTH, _HEIGHT, _COMPRESSION, _ROWS, _PREDICTOR = 256, 257, 259, 278, 317
_STRIPS, _TILES = (273, 279), (324, 325)
_TILE_WIDTH, _TILE_HEIGHT = 322, 323
_PLAIN = 1
_UNKNOWN = {
    6: "JPEG",
    7: "JPEG",
    33003: "JPEG 2000",
    33005: "JPEG 2000",
    34712: "JPEG 2000",
    34887: "LERC",
    34925: "LZMA",
    50000: "Zstandard",
    50001: "WebP",
    52546: "JPEG XL",
}
"""The compressions that OpenCV does not undo in a picture of several bands, by the tag Compression."""
_NO_DIFFERENCES, _DIFFERENCES, _FLOAT_DIFFERENCES = 1, 2, 3
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
"""The kinds of NumPy's types by the tag SampleFormat; 4 is undefined data."""
_ODD = ((3, 16), (1, 32))
"""SampleFormat and BitsPerSample of half floats, which OpenCV does not read, and of uint32, which OpenCV 4 does not."""
_MOST_BANDS = 1024
_LONGEST = 1 << 20
"""OpenCV decodes no row of more pixels."""


def needs_own_reader(page: TiffPage) -> bool:
    """Tell whether OpenCV would refuse a TIFF file, or drop bands of it, that `read_bands` reads."""
    if page.photometric not in (*_GREY, RGB):
        return False
    odd = (page.format, page.bits[0]) in _ODD
    guessed_alpha = page.photometric == RGB and page.samples == 4 and page.bands_beside == 1
    several = page.samples > 1 and (page.planar == 2 or page.photometric in _GREY or page.samples > 4)
    return odd or several or (page.bands_beside > 0 and not guessed_alpha)


def read_bands(data: bytes, page: TiffPage, path: str) -> NDArray[Any]:
    """Decode the first picture of a TIFF file as [H,W,S] of its own type, all bands in order, not turned upright.

    Raises:
        ImageError: the file is damaged, too large, or of a kind that is not read.
    """
    found = all_tags(data)
    if found is None:
        raise _damaged(path)
    order, tags = found
    source = _Source(data, order, tags, path)
    pieces = _Pieces.of(tags, page, path)
    kind = _dtype(page, path)
    if method := _UNKNOWN.get(tags.get(_COMPRESSION, (_PLAIN,))[0]):
        raise ImageError(
            f"{path}: its bands are compressed by {method}, which is not read; save it with Deflate, LZW or none"
        )
    if pieces.height * pieces.across * pieces.width * page.samples * kind.itemsize > MAX_DECODED:
        raise ImageError(
            f"{path}: {pieces.picture_width} x {pieces.height} pixels of {page.samples} bands of {kind} are more than "
            f"the limit of {MAX_DECODED >> 20} MiB; scale it down first, or cut it into smaller pictures"
        )
    predictor = tags.get(_PREDICTOR, (_NO_DIFFERENCES,))[0]
    if predictor not in (_NO_DIFFERENCES, _DIFFERENCES, _FLOAT_DIFFERENCES):
        raise ImageError(f"{path}: its tag Predictor is {predictor}, which TIFF does not know; save it anew")
    planes = pieces.planes(page.samples if page.planar == 2 else 1)
    bands = 1 if page.planar == 2 else page.samples
    done = [_plane(source, plane, bands, kind, predictor) for plane in planes]
    whole = done[0] if len(done) == 1 else np.concatenate(done, axis=2)
    return whole[:, : pieces.picture_width]


class _Source(NamedTuple):
    """A _Source is a TIFF file: its content, its byte order as `struct` writes it, its tags and its path."""

    data: bytes
    order: str
    tags: Mapping[int, tuple[int, ...]]
    path: str


@dataclass(frozen=True)
class _Pieces:
    """_Pieces are the strips or tiles that a picture is cut into.

    Attributes:
        picture_width, height: the size of the picture.
        width, rows: the size of a piece; a strip is as wide as the picture.
        across, down: how many pieces lie beside and below each other.
        offsets, lengths: where the pieces begin in the file, and their numbers of bytes.
        tiled: whether they are tiles.
    """

    picture_width: int
    height: int
    width: int
    rows: int
    across: int
    down: int
    offsets: Sequence[int]
    lengths: Sequence[int]
    tiled: bool

    @classmethod
    def of(cls, tags: Mapping[int, tuple[int, ...]], page: TiffPage, path: str) -> _Pieces:
        """Return the pieces that the tags state.

        Raises:
            ImageError: they do not make the picture.
        """
        tiled = _TILES[0] in tags
        places, sizes = (tags.get(tag, ()) for tag in (_TILES if tiled else _STRIPS))
        width, height = (tags.get(tag, (0,))[0] for tag in (_WIDTH, _HEIGHT))
        piece_width = tags.get(_TILE_WIDTH, (0,))[0] if tiled else width
        rows = tags.get(_TILE_HEIGHT, (0,))[0] if tiled else min(height, tags.get(_ROWS, (height,))[0])
        if not (width and height and piece_width and rows and 1 <= page.samples <= _MOST_BANDS):
            raise _damaged(path)
        across, down = -(-width // piece_width), -(-height // rows)
        count = across * down * (page.samples if page.planar == 2 else 1)
        if not len(places) == len(sizes) == count:
            raise _damaged(path)
        return cls(width, height, piece_width, rows, across, down, places, sizes, tiled)

    def planes(self, count: int) -> list[_Pieces]:
        """Return the pieces of each of `count` bands that lie behind each other."""
        each = self.across * self.down
        parts = [slice(n * each, (n + 1) * each) for n in range(count)]
        return [replace(self, offsets=self.offsets[part], lengths=self.lengths[part]) for part in parts]


def _dtype(page: TiffPage, path: str) -> np.dtype[Any]:
    """Return the type of the numbers, in the machine's byte order."""
    bits = set(page.bits)
    if len(bits) > 1 or bits - {8, 16, 32, 64} or page.format not in _KINDS or (page.format == 3 and bits == {8}):
        raise ImageError(
            f"{path}: has bands of {', '.join(map(str, sorted(bits)))} bits of the kind {page.format}; save it with "
            "integers of 8, 16 or 32 bits or with floats"
        )
    return np.dtype(f"{_KINDS[page.format]}{page.bits[0] // 8}")


def _plane(source: _Source, pieces: _Pieces, bands: int, kind: np.dtype[Any], predictor: int) -> NDArray[Any]:
    """Decode pieces of `bands` bands that lie pixel by pixel: [height, across * width, bands]."""
    as_bytes = predictor == _FLOAT_DIFFERENCES
    factor = bands * (kind.itemsize if as_bytes else 1)
    # The bits of the numbers are all that matters here; every OpenCV knows these types.
    carrier = np.dtype({1: "u1", 2: "u2", 4: "f4", 8: "f8"}[1 if as_bytes else kind.itemsize])
    outside = any(place + size > len(source.data) for place, size in zip(pieces.offsets, pieces.lengths, strict=True))
    if outside or sum(pieces.lengths) > len(source.data):
        raise _damaged(source.path)
    is_plain = source.tags.get(_COMPRESSION, (_PLAIN,))[0] == _PLAIN
    decoded = (_as_stored if is_plain else _by_opencv)(source, pieces, factor, carrier)
    if as_bytes:
        return _of_byte_differences(decoded, pieces, bands, kind)
    values: NDArray[Any] = decoded.view(kind).reshape(pieces.height, pieces.across, pieces.width, bands)
    if predictor == _DIFFERENCES:
        unsigned = values.view(np.dtype(f"u{kind.itemsize}"))
        values = np.cumsum(unsigned, axis=2, dtype=unsigned.dtype).view(kind)
    return values.reshape(pieces.height, pieces.across * pieces.width, bands)


def _by_opencv(source: _Source, pieces: _Pieces, factor: int, carrier: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers of compressed pieces as OpenCV decodes them: [height, across * width * factor]."""
    grey = _grey_file(source, pieces, factor, carrier)
    try:
        decoded: NDArray[Any] | None = opencv().imdecode(np.frombuffer(grey, np.uint8), opencv().IMREAD_UNCHANGED)
    except opencv().error as error:
        if is_no_memory(error):
            raise
        raise ImageError(f"{source.path}: OpenCV cannot read this picture: {first_line(error)}") from error
    shape = (pieces.height, pieces.across * pieces.width * factor)
    if decoded is None or decoded.shape != shape or decoded.dtype != carrier:
        raise _damaged(source.path)
    return decoded


def _as_stored(source: _Source, pieces: _Pieces, factor: int, carrier: np.dtype[Any]) -> NDArray[Any]:
    """Return the numbers of pieces that are not compressed: [height, across * width * factor].

    OpenCV 5 refuses some of them: its libtiff wants the bytes of a tile to be a multiple of 1024.
    """
    result = np.empty((pieces.height, pieces.across * pieces.width * factor), carrier)
    stored, row = np.dtype(f"{source.order}{carrier.str[1:]}"), pieces.width * factor
    for n, (place, size) in enumerate(zip(pieces.offsets, pieces.lengths, strict=True)):
        top, left = n // pieces.across * pieces.rows, n % pieces.across * row
        rows = min(pieces.rows, pieces.height - top)
        if size < rows * row * carrier.itemsize:
            raise _damaged(source.path)
        values = np.frombuffer(source.data, stored, rows * row, place)
        result[top : top + rows, left : left + row] = values.reshape(rows, row)
    return result


def _of_byte_differences(decoded: NDArray[Any], pieces: _Pieces, bands: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """Undo the floating point predictor: bytes ordered by significance, and differences of bytes `bands` apart."""
    rows = decoded.reshape(pieces.height, pieces.across, -1, bands)
    summed = np.cumsum(rows, axis=2, dtype=np.uint8)
    ordered = summed.reshape(pieces.height, pieces.across, kind.itemsize, pieces.width * bands)
    numbers = np.ascontiguousarray(ordered.swapaxes(2, 3)).view(kind.newbyteorder(">")).astype(kind)
    return numbers.reshape(pieces.height, pieces.across * pieces.width, bands)


def _grey_file(source: _Source, pieces: _Pieces, factor: int, carrier: np.dtype[Any]) -> bytes:
    """Return a TIFF file of one band with the data of these pieces, whose rows are `factor` times as long.

    Raises:
        ImageError: the pieces lie outside the file, or hold more than it, or a row is too long.
    """
    data, tags, path = source.data, source.tags, source.path
    width = pieces.across * pieces.width * factor
    if width > _LONGEST:
        raise ImageError(f"{path}: its rows of {width} numbers are too long; cut it into smaller pictures")
    content = [data[place : place + size] for place, size in zip(pieces.offsets, pieces.lengths, strict=True)]
    starts = np.cumsum([8, *pieces.lengths[:-1]]).tolist()
    fields: dict[int, Sequence[int]] = {
        _WIDTH: [width],
        _HEIGHT: [pieces.height],
        258: [carrier.itemsize * 8],
        _COMPRESSION: tags.get(_COMPRESSION, (_PLAIN,))[:1],
        262: [1],
        266: tags.get(266, (1,))[:1],
        277: [1],
        339: [3 if carrier.kind == "f" else 1],
    }
    if pieces.tiled:
        fields |= {_TILE_WIDTH: [pieces.width * factor], _TILE_HEIGHT: [pieces.rows]}
    else:
        fields |= {_ROWS: [pieces.rows]}
    fields |= dict(zip(_TILES if pieces.tiled else _STRIPS, (starts, pieces.lengths), strict=True))
    return _tiff_file(source.order, b"".join(content), fields)


def _tiff_file(order: str, content: bytes, fields: Mapping[int, Sequence[int]]) -> bytes:
    """Return a TIFF file whose data, from byte 8 on, are `content`, with these tags."""
    content += b"\0" * (len(content) % 2)
    start = 8 + len(content)
    behind = start + 2 + 12 * len(fields) + 4
    entries, blob = b"", b""
    for tag, values in sorted(fields.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, blob = struct.pack(order + "I", behind + len(blob)), blob + packed
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    return head + content + struct.pack(order + "H", len(fields)) + entries + struct.pack(order + "I", 0) + blob


def _damaged(path: str) -> ImageError:
    """Return the error that a TIFF file is damaged."""
    return ImageError(f"{path}: this TIFF file of several bands is damaged or truncated; copy or download it again")
