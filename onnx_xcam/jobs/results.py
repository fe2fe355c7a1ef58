"""results.jsonl: a line per photo, added when all files of its photo are in place.

So whatever ends the program, what the lines tell is there. `earlier` reads them again.
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


def add_line(lines: BinaryIO, record: Line) -> None:
    """Add a photo's line, and have it on its way to the disk."""
    lines.write(json_text(record).encode("utf-8") + b"\n")
    lines.flush()


def lines_in(path: Path) -> int:
    """How many photos have a line: what is done of a run that was interrupted, wherever it was just then."""
    if not path.exists():
        return 0
    with path.open("rb") as lines:
        return sum(1 for _ in lines)


def failure_text(image: str, error: str) -> str:
    """What is said of a photo that failed; many errors name it already."""
    return error if image in error else f"{image}: {error}"


def continued(
    path: Path,
    wanted: RunSettings,
    photos: Mapping[Path, Path],
    reporter: Reporter,
    *,
    given: frozenset[Path] = frozenset(),
) -> Earlier:
    """What an earlier run has done of these photos; its file is left with the lines that stay.

    Args:
        path: results.jsonl.
        wanted: what `run_settings` says of this run.
        photos: as they are called, with where they lie (resolved).
        reporter: is told of it.
        given: where else photos lie that are given today, and so are never removed.

    Raises:
        OutputError: as `read_earlier` and `tidy`, or it is no file.
    """
    check_plain(path)
    earlier = read_earlier(path, wanted, photos)
    tidy(path, earlier, given.union(photos.values()))
    reporter.note(f"{len(earlier.finished)} of {len(photos)} photos are done already.")
    return earlier


def begun_anew(path: Path, wanted: RunSettings, reporter: Reporter) -> Earlier:
    """An empty file, and a word on what was in it.

    Args:
        path: results.jsonl.
        wanted: what `run_settings` says of this run.
        reporter: is told of it.

    Raises:
        OutputError: it cannot be written, or what is there is of another command.
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
    try:
        record = load_json(first.decode("utf-8-sig"))
    except ValueError:  # torn or damaged: nothing that could be lost
        return
    settings = record.get("settings") if isinstance(record, dict) else None
    refuse_other_command(settings if isinstance(settings, dict) else {}, wanted, path)
