"""Reading a line of results.jsonl, by whichever version of onnx-xcam it was written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from onnx_xcam.records.checking import fits
from onnx_xcam.records.evaluate import EvaluateLine
from onnx_xcam.records.explain import ExplainLine, MapRecord, of_first_form
from onnx_xcam.records.lines import VERSION
from onnx_xcam.text import json_text, load_json

Line: TypeAlias = ExplainLine | EvaluateLine


class LineError(ValueError):
    """A line cannot be used; the message says of it what it is and what to do, without its subject."""


def read_line(text: bytes) -> Line:
    """A line of either command in today's form; see `read_text`."""
    return read_text(text)[0]


def read_text(text: bytes) -> tuple[Line, bytes]:
    """A line of either command in today's form, and the text of that: the same, if it is of today.

    A line that does not tell how it was made has empty settings.

    Raises:
        LineError: it is damaged, does not tell which file its photo was, or is of a later version.
    """
    try:
        record = load_json(text.decode("utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or "error" not in record:
        raise _damaged()
    version = record.get("version", 1)
    if isinstance(version, int) and version > VERSION:
        raise LineError(
            f"was written by a later onnx-xcam (version {version} of a line's form, where this one knows {VERSION}); "
            "update onnx-xcam, or name another folder with -o."
        )
    _require_photo(record)
    if not isinstance(record.get("settings"), dict):
        record["settings"] = {}
    line = _of_today(record)
    if not fits(line, EvaluateLine if "results" in line else ExplainLine):
        raise _damaged()
    texts = (line["image"], line["path"], *line["files"])
    if any("\0" in one for one in texts):
        raise _damaged()
    return cast("Line", line), text if line is record else json_text(line).encode("utf-8")


def read_explained(text: bytes) -> ExplainLine:
    """A line that `explain` has written; see `read_text`."""
    return cast("ExplainLine", _of_command(read_line(text), evaluation=False))


def read_evaluated(text: bytes) -> EvaluateLine:
    """A line that `evaluate` has written; see `read_text`."""
    return cast("EvaluateLine", _of_command(read_line(text), evaluation=True))


def _of_command(line: Line, *, evaluation: bool) -> Line:
    if is_evaluation(line) != evaluation:
        raise LineError("was written by another command.")
    return line


def files_named(text: bytes) -> list[str]:
    """The files that a line of any version tells of, as far as it can be read."""
    try:
        files = load_json(text.decode("utf-8-sig"))["files"]
    except (ValueError, TypeError, LookupError):
        return []
    return [file for file in files if isinstance(file, str)] if isinstance(files, list) else []


def is_evaluation(line: Line) -> bool:
    """Whether `evaluate` has written a line, and not `explain`."""
    return "results" in line


def targets_of(line: Line) -> tuple[list[str], list[str]]:
    """The layers and the methods of the run that has written a line; of a photo that failed, maybe the first only."""
    if is_evaluation(line):
        evaluated = cast("EvaluateLine", line)
        return evaluated["layer"], evaluated["method"]
    explained = cast("ExplainLine", line)
    maps = explained["maps"] or [MapRecord(layer=explained["layer"], method=explained["method"], status=[])]
    return list(dict.fromkeys(one["layer"] for one in maps)), list(dict.fromkeys(one["method"] for one in maps))


def _damaged() -> LineError:
    return LineError("is damaged; remove that line, or leave out --resume to start from the beginning.")


def _require_photo(record: Mapping[str, Any]) -> None:
    if not fits(record.get("image"), str) or not fits(record.get("files"), list[str]):
        raise _damaged()
    if not {"path", "sha256"} & record.keys():
        raise LineError(
            "does not tell which file its photo was, as an earlier version of onnx-xcam wrote it, so that run cannot "
            "be continued; name another folder with -o."
        )


def _of_today(record: dict[str, Any]) -> dict[str, Any]:
    if "version" in record:
        return record
    if "results" in record:  # of `evaluate`, whose lines have been the same since
        return {"version": VERSION, **record}
    try:
        return of_first_form(record)
    except (TypeError, ValueError, LookupError) as error:
        raise _damaged() from error
