"""This module writes results.jsonl: a line per photo, added when all files of the photo have been written.

So the files of every line exist, whatever ends the program. `earlier` reads the lines again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from onnx_xcam.common.files import writing_to
from onnx_xcam.jobs.earlier import NOTHING, Earlier, read_earlier, tidy
from onnx_xcam.jobs.output_folder import check_plain
from onnx_xcam.jobs.reporter import Reporter
from onnx_xcam.jobs.run_settings import RunSettings, refuse_other_command
from onnx_xcam.records.reading import Line
from onnx_xcam.text import json_text, load_json

_FIRST_LINE = 1 << 24
"""The most bytes that are read to find the first line of a file."""


def add_line(lines: BinaryIO, record: Line) -> None:
    """Add a photo's line, and hand it to the operating system at once."""
    lines.write(json_text(record).encode("utf-8") + b"\n")
    lines.flush()


def lines_in(path: Path) -> int:
    """Return the number of lines, which is the number of photos that are done; 0 if there is no file."""
    if not path.exists():
        return 0
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def failure_text(image: str, error: str) -> str:
    """Return the message for a photo that failed; the photo is added to errors that do not name it."""
    return error if image in error else f"{image}: {error}"


def continued(
    path: Path,
    wanted: RunSettings,
    photos: Mapping[Path, Path],
    reporter: Reporter,
    *,
    given: frozenset[Path] = frozenset(),
) -> Earlier:
    """Return what an earlier run has done of these photos, after reducing its results to what stays.

    Args:
        path: the path of results.jsonl.
        wanted: the settings of this run.
        photos: the photos as they were named, with their resolved paths.
        reporter: receives how many photos are done.
        given: the resolved paths of further files that were given as photos, and so are never removed.

    Raises:
        OutputError: as `read_earlier` and `tidy`, or the path is no plain file.
    """
    check_plain(path)
    earlier = read_earlier(path, wanted, photos)
    tidy(path, earlier, given.union(photos.values()))
    reporter.note(f"{len(earlier.finished)} of {len(photos)} photos are done already.")
    return earlier


def begun_anew(path: Path, wanted: RunSettings, reporter: Reporter) -> Earlier:
    """Start an empty results.jsonl, and report if it replaces an earlier one.

    Args:
        path: the path of results.jsonl.
        wanted: the settings of this run.
        reporter: receives a note if there were earlier results.

    Raises:
        OutputError: the file cannot be written, or another command has written it.
    """
    check_plain(path)
    with writing_to(path):
        if path.exists():
            with path.open("rb") as file:
                first = file.readline(_FIRST_LINE)
            _refuse_foreign(first, wanted, path)
            if first:
                reporter.note(f"the earlier '{path}' is replaced; --resume would have continued it.")
        path.write_bytes(b"")
    return NOTHING


def _refuse_foreign(first: bytes, wanted: RunSettings, path: Path) -> None:
    """Raise an OutputError if the first line of a file was written by another command or program."""
    try:
        record = load_json(first.decode("utf-8-sig"))
    except ValueError:  # incomplete or damaged: there is nothing to lose
        return
    settings = record.get("settings") if isinstance(record, dict) else None
    refuse_other_command(settings if isinstance(settings, dict) else {}, wanted, path)
