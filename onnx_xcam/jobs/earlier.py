"""What an earlier run has left in results.jsonl, read to be continued: a line belongs to a file, and a file has one."""

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

_RESULT = re.compile(r"\.(\d+\.png|npz)\Z")


@dataclass(frozen=True)
class EarlierLine:
    """A line that an earlier run has left.

    Attributes:
        text: of the line in today's form, without its end.
        photo: where the photo lies (resolved), as seen from the folder of results.jsonl.
        sha256: of the photo, or None if it could not be read.
        files: the names of those that were written.
        done: whether there is no error, and the files are there.
    """

    text: bytes
    photo: Path
    sha256: str | None
    files: tuple[str, ...]
    done: bool


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has left.

    Attributes:
        finished: the lines of those of today's photos that are done, by where the photo lies (resolved).
        lines: all that stay: these, and those of photos that are not given today.
        rewrite: whether the file holds more than these lines, or others.
        stale: names of files that belong to no line any more: of photos that have changed since.
    """

    finished: Mapping[Path, EarlierLine]
    lines: Sequence[EarlierLine]
    rewrite: bool = False
    stale: frozenset[str] = frozenset()

    @property
    def files(self) -> list[str]:
        """The names of all files that were written, and stay."""
        return [file for line in self.lines for file in line.files]


NOTHING = Earlier({}, ())


def read_earlier(path: Path, wanted: RunSettings, photos: Mapping[Path, Path]) -> Earlier:
    """The results of an earlier run, to be continued.

    Args:
        path: results.jsonl; nothing is done yet if it is not there.
        wanted: what `run_settings` says of this run: the earlier one must have had the same.
        photos: of this run, as they are called, with where they lie (resolved).

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
        if before is None or line.done or not before.done:  # else written twice, and only the first time in full
            by_photo[line.photo] = line
    found = _matched(by_photo, photos, folder)
    whole = b"".join(line.text + b"\n" for line in found.lines)
    return replace(found, rewrite=whole != data)


def _matched(by_photo: Mapping[Path, EarlierLine], photos: Mapping[Path, Path], folder: Path) -> Earlier:
    """Which of today's photos are done, and what becomes of the lines.

    A photo is done that lies where a line says and is what it was (or is gone, and so cannot be done again). So is one
    that lies elsewhere, or has another name, where its content is that of a line whose own photo is not given today:
    it was moved or copied, and the line then says where to.
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
    """The line of a photo that now lies elsewhere."""
    record = read_line(line.text)
    record["image"], record["path"] = str(image), path_in_line(photo, folder)
    return replace(line, photo=photo, text=json_text(record).encode("utf-8"))


def _line(text: bytes, record: Line, folder: Path, there: set[str]) -> EarlierLine:
    files = tuple(file.name for file in files_of(record, folder))
    done = record["error"] is None and there.issuperset(files)
    return EarlierLine(text, resolved(folder / record["path"]), record["sha256"], files, done)


def tidy(path: Path, earlier: Earlier, photos: frozenset[Path]) -> None:
    """Leave only the lines that are kept in the file, and then remove the files of the others.

    Args:
        path: results.jsonl.
        earlier: what `read_earlier` gave.
        photos: where today's photos lie (resolved); none of them is removed, whatever a line says, nor anything that
            is not called as a result is.

    Raises:
        OutputError: it cannot be written.
    """
    if earlier.rewrite:
        with written(path) as file:
            file.write(b"".join(line.text + b"\n" for line in earlier.lines))
    for name in earlier.stale:
        stale = path.parent / name
        if _RESULT.search(name) and stale.resolve() not in photos:
            with writing_to(stale):
                stale.unlink(missing_ok=True)
