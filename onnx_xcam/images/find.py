"""This module finds the picture files in folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from onnx_xcam.common.files import is_file, is_folder, is_there, resolved
from onnx_xcam.errors import ImageError

SUFFIXES = frozenset(
    f".{name}"
    for names in (
        "avif bmp dcm dib gif hdr jp2",
        "jpe jpeg jpg npy",
        "pbm pfm pgm pnm ppm",
        "pic png ras tif tiff webp",
    )
    for name in names.split()
)
"""The suffixes by which `find_images` knows pictures in a folder; a file that is named itself may have any suffix."""


def find_images(
    paths: Iterable[str | Path], *, recursive: bool = False, leave_out: str | Path | None = None
) -> list[Path]:
    """Return the picture files that these paths name: a file as it is, a folder as its pictures, sorted by name.

    Pictures in folders are known by `SUFFIXES`; hidden files and folders are left out.

    Args:
        paths: files and folders.
        recursive: also search the folders in the folders, but not through links; they come after a folder's pictures.
        leave_out: a folder that the recursive search leaves out.

    Raises:
        ImageError: a path does not exist, a folder cannot be listed or has no picture.
    """
    skipped = None if leave_out is None else resolved(Path(leave_out))
    files: list[Path] = []
    for path in map(Path, paths):
        if not is_folder(path):
            if not is_there(path):
                raise ImageError(f"{path}: no such file or folder")
            files.append(path)
            continue
        pictures = _pictures_in(path, recursive, skipped)
        if not pictures:
            where = "folder or those in it" if recursive else "folder (subfolders are not searched)"
            raise ImageError(f"{path}: no picture in this {where}")
        files += pictures
    return files


def _pictures_in(folder: Path, recursive: bool, skipped: Path | None) -> list[Path]:
    """Return the pictures in a folder, and in the folders in it if recursive; `skipped` is left out."""
    try:
        entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ImageError(f"{folder}: the folder cannot be listed: {error.strerror}") from error
    pictures = [path for path in entries if path.suffix.lower() in SUFFIXES and is_file(path)]
    if recursive:
        for path in entries:
            if is_folder(path) and not path.is_symlink() and resolved(path) != skipped:
                pictures += _pictures_in(path, recursive, skipped)
    return pictures
