"""This module finds the photos that a job is given as files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from onnx_xcam.common.files import is_file, is_folder, resolved
from onnx_xcam.errors import ImageError, OutputError
from onnx_xcam.images.find import find_images
from onnx_xcam.records.reading import files_named

RESULTS = "results.jsonl"
"""The name of the file with a line for each photo."""

STANDARD_INPUT = Path("-")
"""What a photo is given as that is read from standard input."""
STDIN = Path("stdin")
"""What results call the photo from standard input."""


def find_pictures(paths: Iterable[Path], *, recursive: bool, leave_out: Path) -> dict[Path, Path]:
    """Return the given files and the pictures of the given folders, each once, with their resolved paths.

    `STANDARD_INPUT` is returned as `STDIN`, and is its own resolved path.
    A file that does not exist is returned too: it becomes the failure of one photo, and does not end the job.

    Args:
        paths: files and folders.
        recursive: whether to take the pictures of folders within the folders too.
        leave_out: a folder within the folders that is not searched.

    Raises:
        ImageError: a folder has no pictures except those that earlier runs have written there, or a file is called as
            the photo from standard input is.
    """
    named: dict[Path, Path] = {}
    for path in paths:
        if path == STANDARD_INPUT:
            named.setdefault(STANDARD_INPUT, STDIN)
            continue
        several = _pictures_in(path, recursive, leave_out) if is_folder(path) else [path]
        for picture in several:
            named.setdefault(resolved(picture), picture)
    if STANDARD_INPUT in named and list(named.values()).count(STDIN) > 1:
        raise ImageError(
            "The photo from standard input is called stdin in the results, as another photo is; rename it."
        )
    return {picture: where for where, picture in named.items()}


def _pictures_in(folder: Path, recursive: bool, leave_out: Path) -> list[Path]:
    """Return the pictures of a folder, except those that an earlier run has written there."""
    pictures = find_images([folder], recursive=recursive, leave_out=leave_out)
    results = {parent: _results_in(parent) for parent in {picture.parent for picture in pictures}}
    photos = [picture for picture in pictures if picture.name not in results[picture.parent]]
    if not photos:
        raise ImageError(f"{folder}: no picture there but those that earlier runs of onnx-xcam have written")
    return photos


def without_results(photos: Mapping[Path, Path], folder: Path) -> dict[Path, Path]:
    """Return the photos, except pictures that an earlier run has written to its output folder."""
    names, lies = _results_in(folder), resolved(folder)
    return {image: path for image, path in photos.items() if path.parent != lies or path.name not in names}


def _results_in(folder: Path) -> set[str]:
    """Return the names of the files that the results.jsonl of a folder lists, as far as it can be read."""
    names: set[str] = set()
    if not is_file(folder / RESULTS):
        return names
    with suppress(OSError), (folder / RESULTS).open("rb") as lines:
        for line in lines:
            names.update(Path(file).name for file in files_named(line))
    return names


def refuse_mixed(paths: Iterable[Path], folder: Path) -> None:
    """Raise an OutputError if a run is to be continued in a folder that also holds its photos.

    A picture that was written just before the earlier run ended has no line in results.jsonl yet, and would be taken
    for a photo.

    Raises:
        OutputError: the output folder is one of the folders of photos.
    """
    if any(is_folder(path) and resolved(path) == resolved(folder) for path in paths):
        raise OutputError(
            f"'{folder}' holds the photos and what was written, which --resume cannot tell apart; name another folder "
            "for the results with -o."
        )
