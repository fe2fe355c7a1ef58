"""This module reads lines of results.jsonl that this or an earlier version of onnx-xcam wrote."""

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
    """A LineError says why a line cannot be used and what to do; the message is a sentence without its subject."""


def read_line(text: bytes) -> Line:
    """Read a line of either command and return it in the current form; raises as `read_text` does."""
    return read_text(text)[0]


def read_text(text: bytes) -> tuple[Line, bytes]:
    """Read a line of either command, and return it in the current form with the text of that form.

    The text is the given one if the line has the current form already. A line that states no settings gets empty ones.

    Raises:
        LineError: the line is damaged, does not state the file of its photo, or is of a later version.
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
    line = _current_form(record)
    if not fits(line, EvaluateLine if "results" in line else ExplainLine):
        raise _damaged()
    texts = (line["image"], line["path"], *line["files"])
    if any("\0" in one for one in texts):
        raise _damaged()
    return cast("Line", line), text if line is record else json_text(line).encode("utf-8")


def read_explained(text: bytes) -> ExplainLine:
    """Read a line that `explain` has written; raises LineError as `read_text` does, and for a line of `evaluate`."""
    return cast("ExplainLine", _of_command(read_line(text), evaluation=False))


def read_evaluated(text: bytes) -> EvaluateLine:
    """Read a line that `evaluate` has written; raises LineError as `read_text` does, and for a line of `explain`."""
    return cast("EvaluateLine", _of_command(read_line(text), evaluation=True))


def _of_command(line: Line, *, evaluation: bool) -> Line:
    if is_evaluation(line) != evaluation:
        raise LineError("was written by another command.")
    return line


def files_named(text: bytes) -> list[str]:
    """Return the files that a line of any version lists; none if the line cannot be read."""
    try:
        files = load_json(text.decode("utf-8-sig"))["files"]
    except (ValueError, TypeError, LookupError):
        return []
    return [file for file in files if isinstance(file, str)] if isinstance(files, list) else []


def is_evaluation(line: Line) -> bool:
    """Tell whether a line was written by `evaluate`, and not by `explain`."""
    return "results" in line


def targets_of(line: Line) -> tuple[list[str], list[str]]:
    """Return the layers and the methods of the run that wrote a line.

    The line of a photo that `explain` could not explain states only the first of each.
    """
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


def _current_form(record: dict[str, Any]) -> dict[str, Any]:
    if "version" in record:
        return record
    if "results" in record:  # lines of `evaluate` have had the same fields from the first version on
        return {"version": VERSION, **record}
    try:
        return of_first_form(record)
    except (TypeError, ValueError, LookupError) as error:
        raise _damaged() from error
