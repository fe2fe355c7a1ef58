"""TIFF files of any bands for tests: strips or tiles, compressed or not, in both byte orders."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tiff:
    """How an array [H,W,S] is written: the tags of the same names in the standard, and the sizes of its pieces."""

    order: str = "<"
    big: bool = False
    planar: int = 1
    photometric: int = 1
    extra: tuple[int, ...] | None = None
    deflate: bool = False
    predictor: int = 1
    tile: tuple[int, int] | None = None
    rows: int = 7
    orientation: int = 1

    def write(self, pixels: NDArray[np.generic]) -> bytes:
        """Return the content of the file."""
        height, width, samples = pixels.shape
        planes = [pixels[..., n : n + 1] for n in range(samples)] if self.planar == 2 else [pixels]
        pieces = [self._packed(piece) for plane in planes for piece in self._pieces(plane)]
        colours = 3 if self.photometric == 2 else 1
        extra = (0,) * (samples - colours) if self.extra is None else self.extra
        tags = {
            256: [width],
            257: [height],
            258: [pixels.dtype.itemsize * 8] * samples,
            259: [8 if self.deflate else 1],
            262: [self.photometric],
            274: [self.orientation],
            277: [samples],
            284: [self.planar],
            317: [self.predictor],
            338: list(extra),
            339: [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * samples,
        }
        head = 16 if self.big else 8
        places = np.cumsum([head, *map(len, pieces)])[:-1].tolist()
        if self.tile:
            tags |= {322: [self.tile[1]], 323: [self.tile[0]], 324: places, 325: list(map(len, pieces))}
        else:
            tags |= {273: places, 278: [self.rows], 279: list(map(len, pieces))}
        return self._assembled(b"".join(pieces), {tag: values for tag, values in tags.items() if values})

    def _pieces(self, plane: NDArray[np.generic]) -> list[NDArray[np.generic]]:
        """Cut a plane into strips, or into tiles that are filled up at the edges."""
        if self.tile is None:
            return [plane[top : top + self.rows] for top in range(0, len(plane), self.rows)]
        rows, columns = self.tile
        padded = np.pad(plane, [(0, -plane.shape[0] % rows), (0, -plane.shape[1] % columns), (0, 0)])
        return [
            padded[top : top + rows, left : left + columns]
            for top in range(0, padded.shape[0], rows)
            for left in range(0, padded.shape[1], columns)
        ]

    def _packed(self, piece: NDArray[np.generic]) -> bytes:
        """Return the bytes of a piece."""
        stored = np.ascontiguousarray(piece)
        if self.predictor == 3:
            data = self._by_significance(stored)
        else:
            if self.predictor == 2:
                whole = stored.view(f"u{stored.dtype.itemsize}")
                stored = np.concatenate([whole[:, :1], whole[:, 1:] - whole[:, :-1]], axis=1)
            data = stored.astype(stored.dtype.newbyteorder(self.order)).tobytes()
        return zlib.compress(data) if self.deflate else data

    @staticmethod
    def _by_significance(piece: NDArray[np.generic]) -> bytes:
        """Order the bytes of each row by significance, and take differences of bytes that lie a pixel apart."""
        rows, _, samples = piece.shape
        size = piece.dtype.itemsize
        ordered = piece.astype(piece.dtype.newbyteorder(">")).view(np.uint8).reshape(rows, -1, size).swapaxes(1, 2)
        ordered = np.ascontiguousarray(ordered).reshape(rows, -1)
        changed = ordered.copy()
        changed[:, samples:] -= ordered[:, :-samples]
        return changed.tobytes()

    def _assembled(self, content: bytes, tags: dict[int, list[int]]) -> bytes:
        """Return header, content and directory."""
        word, count, head = ("Q", "Q", 16) if self.big else ("I", "H", 8)
        size = struct.calcsize(word)
        content += b"\0" * (-len(content) % 8)
        start = head + len(content)
        behind = start + struct.calcsize(count) + len(tags) * (4 + 2 * size) + size
        entries, blob = b"", b""
        for tag, values in sorted(tags.items()):
            packed = struct.pack(f"{self.order}{len(values)}{word}", *values)
            if len(packed) > size:
                packed, blob = struct.pack(self.order + word, behind + len(blob)), blob + packed
            entries += struct.pack(f"{self.order}HH{word}", tag, 16 if self.big else 4, len(values)) + packed
        mark = b"II" if self.order == "<" else b"MM"
        version = struct.pack(self.order + "HHH", 43, 8, 0) if self.big else struct.pack(self.order + "H", 42)
        header = mark + version + struct.pack(self.order + word, start)
        ending = struct.pack(self.order + count, len(tags)) + entries + struct.pack(self.order + word, 0) + blob
        return header + content + ending
