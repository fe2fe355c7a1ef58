"""The photos that a command is given: files, and what is in folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from onnx_xcam.common.files import is_file, is_folder, resolved
from onnx_xcam.errors import ImageError, OutputError
from onnx_xcam.images.find import find_images
from onnx_xcam.records.reading import files_named

RESULTS = "results.jsonl"


def find_pictures(paths: Iterable[Path], *, recursive: bool, leave_out: Path) -> dict[Path, Path]:
    """The files as they are, folders as their pictures, each once; with where they lie (resolved).

    A file that is not there stays in the list: it is one bad picture, and no reason to leave out the others.

    Args:
        paths: files and folders.
        recursive: also the pictures of folders in the folders,
        leave_out: but of this one.

    Raises:
        ImageError: a folder without pictures, or with none but those that earlier runs have written there.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        several = _pictures_in(path, recursive, leave_out) if is_folder(path) else [path]
        for picture in several:
            found.setdefault(resolved(picture), picture)
    return {picture: where for where, picture in found.items()}


def _pictures_in(folder: Path, recursive: bool, leave_out: Path) -> list[Path]:
    """Without those that an earlier run has written there: they would be explained in their turn."""
    pictures = find_images([folder], recursive=recursive, leave_out=leave_out)
    results = {parent: _results_in(parent) for parent in {picture.parent for picture in pictures}}
    photos = [picture for picture in pictures if picture.name not in results[picture.parent]]
    if not photos:
        raise ImageError(f"{folder}: no picture there but those that earlier runs of onnx-xcam have written")
    return photos


def without_results(photos: Mapping[Path, Path], folder: Path) -> dict[Path, Path]:
    """The photos, without those that an earlier run has written to its output folder."""
    names, lies = _results_in(folder), resolved(folder)
    return {image: path for image, path in photos.items() if path.parent != lies or path.name not in names}


def _results_in(folder: Path) -> set[str]:
    """The names of the files that the results.jsonl of a folder tells of, as far as it can be read."""
    found: set[str] = set()
    if not is_file(folder / RESULTS):
        return found
    with suppress(OSError), (folder / RESULTS).open("rb") as lines:
        for line in lines:
            found.update(Path(file).name for file in files_named(line))
    return found


def refuse_mixed(paths: Iterable[Path], folder: Path) -> None:
    """Refuse to continue where a folder of photos is the output folder.

    A picture that was written there just before the end has no line yet, and looks like one more photo.

    Raises:
        OutputError: it is.
    """
    if any(is_folder(path) and resolved(path) == resolved(folder) for path in paths):
        raise OutputError(
            f"'{folder}' holds the photos and what was written, which --resume cannot tell apart; name another folder "
            "for the results with -o."
        )
