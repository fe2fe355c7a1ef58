"""This module identifies the photo that a line of results.jsonl belongs to, by the file's content and path.

A line has both: `sha256`, the digest of the file as `sha256sum` prints it, and `path`, from the folder of results.jsonl
to the file with links resolved. So it does not matter by which path a photo was named, from which folder, or whether
photos and results were moved together. Times do not count, since copying and unpacking change them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from onnx_xcam.common.files import sha256_of
from onnx_xcam.jobs.photos import STANDARD_INPUT
from onnx_xcam.records.lines import PhotoFile

_LARGEST = 1 << 32
"""A file of more bytes than this is no photo, and is refused when it is read."""
_READERS = 4
"""The number of files that are read at once."""


def digest_of_photo(path: Path) -> str | None:
    """Return the SHA-256 of a file's content; None if it cannot be read, is too large, or is no regular file."""
    try:
        if not path.is_file() or path.stat().st_size > _LARGEST:
            return None
        return sha256_of(path)
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None


def digests_of_photos(paths: Iterable[Path]) -> dict[Path, str | None]:
    """Return the digests of many photos; several are read at once, since each read from a network has to wait."""
    several = list(paths)
    with ThreadPoolExecutor(_READERS, "onnx-xcam-digests") as pool:
        return dict(zip(several, pool.map(digest_of_photo, several), strict=True))


class PhotoFiles:
    """PhotoFiles give the fields by which a line of results.jsonl identifies its photo."""

    def __init__(self, photos: Mapping[Path, Path], folder: Path) -> None:
        """Prepare for photos as they were named, with their resolved paths, and the folder of results.jsonl."""
        self._photos, self._folder = photos, folder.resolve()
        self._digests: dict[Path, str | None] = {}

    def taken(self, images: Iterable[Path]) -> Iterator[Path]:
        """Yield photos, each after its digest was taken, so that a photo which changes afterwards is done again."""
        for image in images:
            self._digests[image] = digest_of_photo(self._photos[image])
            yield image

    def in_line(self, image: Path) -> PhotoFile:
        """Return the fields of a photo that `taken` has yielded; to be called once for each."""
        where = path_in_line(self._photos[image], self._folder)
        return {"path": where, "sha256": self._digests.pop(image)}


def path_in_line(photo: Path, folder: Path) -> str:
    """Return the path from a folder to a photo, both resolved.

    The result is the photo's own path if it is on another drive, and `-` for standard input, which is no file.
    """
    if photo == STANDARD_INPUT:
        return str(photo)
    try:
        return Path(os.path.relpath(photo, folder)).as_posix()
    except ValueError:
        return photo.as_posix()
