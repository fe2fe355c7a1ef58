"""This module defines the fields of a line of results.jsonl that `explain` and `evaluate` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

VERSION = 2
"""The version of a line's form. Fields may be added without a new version, but never change their meaning.

Lines of the first form state no version.
"""


class PhotoRecord(TypedDict):
    """This record holds what every record states about its photo.

    Attributes:
        version: The version of the record's form.
        image: The path or name of the photo, as it was given.
        model: The path of the model's file, as it was given, or "the model" for one in memory.
        files: The paths of the files that the run wrote for the photo; they lie in the folder of results.jsonl.
        seconds: The time that the photo took, or null if it failed.
        error: Why the photo failed, in a sentence, or null.
        settings: The settings with which the record was made, in words and digests; a run can only be continued with
            the same settings.
    """

    version: int
    image: str
    model: str
    files: list[str]
    seconds: float | None
    error: str | None
    settings: dict[str, str]


class PhotoFile(TypedDict):
    """This record identifies the file of a photo.

    Attributes:
        path: The path of the photo from the folder of results.jsonl, with links resolved.
        sha256: The digest of the photo's file, or null if the file could not be read.
    """

    path: str
    sha256: str | None


class PhotoLine(PhotoRecord, PhotoFile):
    """This record is a line of results.jsonl, which also states the file of its photo."""


def files_of(line: PhotoLine, folder: Path) -> list[Path]:
    """Return the files of a line of the results.jsonl in a folder, even if the folder was moved since."""
    return [folder / Path(file).name for file in line["files"]]
