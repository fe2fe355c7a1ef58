"""This module reads the results.jsonl of an earlier run, and finds the photos of today that are done already."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from onnx_xcam.common.files import resolved, writing_to, written
from onnx_xcam.errors import OutputError
from onnx_xcam.jobs.photo_identity import digests_of_photos, path_in_line
from onnx_xcam.jobs.run_settings import RunSettings, refuse_other_run
from onnx_xcam.records.lines import files_of
from onnx_xcam.records.reading import Line, LineError, read_line, read_text
from onnx_xcam.text import json_text

_RESULT = re.compile(r"\.((?:\d+-)?\d+\.png|objects\.png|npz)\Z")
"""Matches the names of the files that `explain` writes for photos."""


@dataclass(frozen=True)
class EarlierLine:
    """An EarlierLine is a line of results.jsonl that an earlier run has written.

    Attributes:
        text: the line in today's form, without its end.
        photo: the photo's resolved path.
        sha256: the photo's digest, or None if it could not be read.
        files: the names of the files that were written for the photo.
        done: whether the line has no error, and all its files exist.
    """

    text: bytes
    photo: Path
    sha256: str | None
    files: tuple[str, ...]
    done: bool


@dataclass(frozen=True)
class Earlier:
    """An Earlier says what an earlier run has done, and what of it stays.

    Attributes:
        finished: the lines of those of today's photos that are done, by the photo's resolved path.
        lines: all lines that stay: the finished ones, and those of photos that are not given today.
        rewrite: whether results.jsonl has to be written again, since its content is not exactly these lines.
        stale: the names of files that belong to no line any more, since their photos have changed.
    """

    finished: Mapping[Path, EarlierLine]
    lines: Sequence[EarlierLine]
    rewrite: bool = False
    stale: frozenset[str] = frozenset()

    @property
    def files(self) -> list[str]:
        """Return the names of all files that were written by the earlier run and stay."""
        return [file for line in self.lines for file in line.files]


NOTHING = Earlier({}, ())
"""The result of an earlier run where there was none."""


def read_earlier(path: Path, wanted: RunSettings, photos: Mapping[Path, Path]) -> Earlier:
    """Read the results of an earlier run that is to be continued.

    Args:
        path: the path of results.jsonl; nothing is done yet if it does not exist.
        wanted: the settings of this run, which the earlier run must have had too.
        photos: the photos of this run as they were named, with their resolved paths.

    Raises:
        OutputError: the file cannot be read, a line but the last is damaged, or the earlier run was another one.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
        there = {file.name for file in path.parent.iterdir()} if data else set()
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    *texts, _torn = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    folder = path.parent.resolve()
    by_photo: dict[Path, EarlierLine] = {}
    for number, text in enumerate(texts, 1):
        try:
            record, today = read_text(text)
        except LineError as error:
            raise OutputError(f"Line {number} of '{path}' {error}") from error
        line = _line(today, record, folder, there)
        if line.done:
            refuse_other_run(record, wanted, path)
        before = by_photo.get(line.photo)
        if before is None or line.done or not before.done:  # else the second of two lines is the incomplete one
            by_photo[line.photo] = line
    earlier = _matched(by_photo, photos, folder)
    whole = b"".join(line.text + b"\n" for line in earlier.lines)
    return replace(earlier, rewrite=whole != data)


def _matched(by_photo: Mapping[Path, EarlierLine], photos: Mapping[Path, Path], folder: Path) -> Earlier:
    """Find the photos of today that are done, and the lines that stay.

    A photo is done if a line has its path and its content is unchanged, or cannot be read and so cannot be done again.
    A photo at another path is done if its content is that of a line for a photo that is not given today: it was moved
    or copied, and the line is changed to name the new path.
    """
    called = {resolved: image for image, resolved in photos.items()}
    digests = digests_of_photos(called) if by_photo else {}
    finished: dict[Path, EarlierLine] = {}
    kept: dict[Path, EarlierLine] = {}
    again: list[EarlierLine] = []
    elsewhere: dict[str, list[Path]] = {}
    for photo, line in by_photo.items():
        if photo in called:
            if line.done and digests[photo] in (line.sha256, None):
                kept[photo] = finished[photo] = line
            else:
                again.append(line)
        elif line.done or not line.files:
            kept[photo] = line
            if line.done and line.sha256 is not None:
                elsewhere.setdefault(line.sha256, []).append(photo)
    for photo in [photo for photo in called if photo not in finished] if elsewhere else ():
        candidates = elsewhere.get(digests[photo] or "", [])
        if candidates:
            before = next((one for one in candidates if one.name == photo.name), candidates[0])
            candidates.remove(before)
            finished[photo] = kept[before] = _moved(kept[before], called[photo], photo, folder)
    files = {file for line in kept.values() for file in line.files}
    stale = frozenset(file for line in again for file in line.files) - files
    return Earlier(finished, list(kept.values()), stale=stale)


def _moved(line: EarlierLine, image: Path, photo: Path, folder: Path) -> EarlierLine:
    """Return the line of a photo that was moved, with the photo's new name and path."""
    record = read_line(line.text)
    record["image"], record["path"] = str(image), path_in_line(photo, folder)
    return replace(line, photo=photo, text=json_text(record).encode("utf-8"))


def _line(text: bytes, record: Line, folder: Path, there: set[str]) -> EarlierLine:
    """Return a line of results.jsonl, given the names of the files that exist in its folder."""
    files = tuple(file.name for file in files_of(record, folder))
    done = record["error"] is None and there.issuperset(files)
    return EarlierLine(text, resolved(folder / record["path"]), record["sha256"], files, done)


def tidy(path: Path, earlier: Earlier, photos: frozenset[Path]) -> None:
    """Reduce results.jsonl to the lines that stay, and then remove the stale files.

    Args:
        path: the path of results.jsonl.
        earlier: the earlier run, as `read_earlier` returns it.
        photos: the resolved paths of today's photos. None of them is removed, whatever a line says, and no file that is
            not named as a result is.

    Raises:
        OutputError: a file cannot be written or removed.
    """
    if earlier.rewrite:
        with written(path) as file:
            file.write(b"".join(line.text + b"\n" for line in earlier.lines))
    for name in earlier.stale:
        stale = path.parent / name
        if _RESULT.search(name) and stale.resolve() not in photos:
            with writing_to(stale):
                stale.unlink(missing_ok=True)
