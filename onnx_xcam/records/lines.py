"""A line of results.jsonl: what `explain` and `evaluate` both tell of a photo."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

VERSION = 2
"""Of a line's form. Fields may be added to it, never changed. Lines of the first form state no version."""


class PhotoRecord(TypedDict):
    """What every record tells of its photo.

    Attributes:
        version: The version of the record's form.
        image: The photo, as it was called.
        model: The model's file, as it was called, or "the model" for one in memory.
        files: The files that were written for the photo, as the run called them; they lie beside results.jsonl.
        seconds: How long the photo took, or null if it failed.
        error: Why the photo failed, in a sentence, or null.
        settings: How the record was made, in words and digests; a run that continues this one has the same.
    """

    version: int
    image: str
    model: str
    files: list[str]
    seconds: float | None
    error: str | None
    settings: dict[str, str]


class PhotoFile(TypedDict):
    """Which file the photo of a line of results.jsonl is.

    Attributes:
        path: The photo, as a path from the folder of results.jsonl, with links resolved.
        sha256: The digest of the photo's file, or null if that could not be read.
    """

    path: str
    sha256: str | None


class PhotoLine(PhotoRecord, PhotoFile):
    """A record as a line of results.jsonl, which also tells which file its photo is."""


def files_of(line: PhotoLine, folder: Path) -> list[Path]:
    """The files of a line of the results.jsonl in a folder, wherever that folder was when they were written."""
    return [folder / Path(file).name for file in line["files"]]
