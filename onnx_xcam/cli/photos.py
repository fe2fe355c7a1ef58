"""The photos that a command is given: files, and what is in folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from onnx_xcam.errors import OutputError
from onnx_xcam.images.read import find_images


def find_pictures(paths: Iterable[Path], *, recursive: bool, leave_out: Path) -> dict[Path, Path]:
    """The files as they are, folders as their pictures, each once; with where they lie (resolved).

    A file that is not there stays in the list: it is one bad picture, and no reason to leave out the others.

    Args:
        paths: files and folders.
        recursive: also the pictures of folders in the folders,
        leave_out: but of this one.

    Raises:
        ImageError: a folder without pictures.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        several = find_images([path], recursive=recursive, leave_out=leave_out) if path.is_dir() else [path]
        for picture in several:
            found.setdefault(picture.resolve(), picture)
    return {picture: resolved for resolved, picture in found.items()}


def refuse_mixed(paths: Iterable[Path], folder: Path) -> None:
    """Refuse to continue where a folder of photos is the output folder.

    A picture that was written there just before the end has no line yet, and looks like one more photo.

    Raises:
        OutputError: it is.
    """
    if any(path.is_dir() and path.resolve() == folder.resolve() for path in paths):
        raise OutputError(
            f"'{folder}' holds the photos and what was written, which --resume cannot tell apart; name another folder "
            "for the results with -o."
        )
