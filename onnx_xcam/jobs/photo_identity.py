"""Which photo a line of results.jsonl belongs to: a file, known by what is in it and by where it lies.

A line says both: `sha256`, the digest of the file as `sha256sum` gives it, and `path`, from the folder of results.jsonl
to the file, links resolved. So it does not matter how a photo is called, from which folder, or whether photos and
results are moved together; and times, which copying and unpacking change, do not count.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onnx_xcam.common.files import sha256_of
from onnx_xcam.records.lines import PhotoFile

_LARGEST = 1 << 32
"""Bytes; what is larger is no photo, and is refused when it is read."""
_READERS = 4


def digest_of_photo(path: Path) -> str | None:
    """The SHA-256 of what is in a file; None where it cannot be read, or is no file that ends."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return sha256_of(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None


def digests_of_photos(paths: Iterable[Path]) -> dict[Path, str | None]:
    """The digests of many photos, several at once: of files on a network one waits for each."""
    several = list(paths)
    with ThreadPoolExecutor(_READERS, "onnx-xcam-digests") as pool:
        return dict(zip(several, pool.map(digest_of_photo, several), strict=True))


class PhotoFiles:
    """What the lines of a run say of its photos' files."""

    def __init__(self, photos: Mapping[Path, Path], folder: Path) -> None:
        """Prepare for photos, as they are called, with where they lie (resolved), and the folder of results.jsonl."""
        self._photos, self._folder = photos, folder.resolve()
        self._digests: dict[Path, str | None] = {}

    def taken(self, images: Iterable[Path]) -> Iterator[Path]:
        """These photos, each looked at before it is read: one that changes in between is done again."""
        for image in images:
            self._digests[image] = digest_of_photo(self._photos[image])
            yield image

    def in_line(self, image: Path) -> PhotoFile:
        """What the line of a photo that was taken says; asked once."""
        where = path_in_line(self._photos[image], self._folder)
        return {"path": where, "sha256": self._digests.pop(image)}


def path_in_line(photo: Path, folder: Path) -> str:
    """From a folder to a photo, both resolved; the photo's own path where there is no way (another drive)."""
    try:
        return Path(os.path.relpath(photo, folder)).as_posix()
    except ValueError:
        return photo.as_posix()
