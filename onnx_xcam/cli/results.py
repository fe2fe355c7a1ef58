"""results.jsonl: a line per photo, written as a whole, and read again to continue a run that was cut short.

A line is added when all files of its photo are in place, so whatever ends the program, what the lines tell is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cli.explaining import Explaining
from onnx_xcam.errors import OutputError
from onnx_xcam.explainer.opened import OpenedModel
from onnx_xcam.text import json_text, load_json

_UNFINISHED = ".onnx-xcam."
"""How the names of files begin that are not whole yet."""
_SHOWN = 60


@dataclass(frozen=True)
class Earlier:
    """What an earlier run has left.

    Attributes:
        finished: the files of each photo that is done, by the photo's resolved path: those with a whole line, without
            an error, and whose files are there. Photos that failed are tried again.
        kept: their lines.
        dropped: how many lines are not kept, a torn one included.
    """

    finished: Mapping[Path, tuple[str, ...]]
    kept: Sequence[bytes]
    dropped: int


def read_results(path: Path, wanted: Mapping[str, Any]) -> Earlier:
    """The results of an earlier run, to be continued.

    Args:
        path: results.jsonl; nothing is done yet if it is not there.
        wanted: what `run_settings` says of this run: the earlier one must have had the same.

    Raises:
        OutputError: the file cannot be read, a line but the last is damaged, or the earlier run was another one.
    """
    try:
        data = path.read_bytes() if path.exists() else b""
        there = {file.name for file in path.parent.iterdir()}
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    *lines, torn = data.split(b"\n")
    finished: dict[Path, tuple[str, ...]] = {}
    kept = {}
    for number, line in enumerate(lines, 1):
        record = _record(line, path, number)
        files = tuple(Path(file).name for file in record["files"])
        if record["error"] is None and there.issuperset(files):
            _refuse_other_run(record, wanted, path)
            photo = Path(record["image"]).resolve()
            finished[photo] = files
            kept[photo] = line
    return Earlier(finished, list(kept.values()), len(lines) - len(kept) + bool(torn))


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = load_json(line.decode("utf-8"))
        if isinstance(record, dict) and "error" in record:
            files = record.get("files")
            texts = [record.get("image"), *(files if isinstance(files, list) else [None])]
            if all(isinstance(text, str) and "\0" not in text for text in texts):
                return record
    except ValueError:
        pass
    raise OutputError(
        f"Line {number} of '{path}' is damaged; remove that line, or leave out --resume to start from the beginning."
    )


_CALLED = {
    "layer": "layer",
    "method": "method",
    "maps": "kind of map",
    "model": "model file",
    "score": "score",
    "classes": "choice of classes",
    "preprocess": "preprocessing",
    "labels": "labels",
    "inputs": "value of another input",
    "write": "choice of what is written",
}


def _refuse_other_run(record: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    settings = record.get("settings")
    if not isinstance(settings, dict):
        raise OutputError(f"'{path}' does not tell how it was made, so it cannot be continued; name another folder.")
    earlier = {"layer": record.get("layer"), "method": record.get("method"), **settings}
    differ = [key for key in _CALLED if earlier.get(key) != wanted[key]]
    if differ:
        changes = (f"another {_CALLED[key]} ({_short(earlier.get(key))}, now {_short(wanted[key])})" for key in differ)
        raise OutputError(
            f"'{path}' cannot be continued, since it was made with {' and '.join(changes)}; give the options of that "
            "run, or name another folder with -o."
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def run_settings(explaining: Explaining, classes: NDArray[np.int64] | None, written: Sequence[str]) -> dict[str, Any]:
    """What decides what a run writes, to be compared with another run's; long things as digests.

    Args:
        explaining: of the run.
        classes: as `Explainer.choose` gives them.
        written: what is written for each photo.
    """
    explainer = explaining.model
    ids = "the model's own" if classes is None else ",".join(map(str, classes[0].tolist()))
    inputs = [(name, value.dtype.str, value.shape, value.tobytes()) for name, value in explainer.inputs.items()]
    return {
        "layer": one_or_all(explainer.layers),
        "method": one_or_all(explaining.methods),
        "maps": explaining.kind_of_maps,
        "model": _digest_of_model(explainer),
        "score": explainer.score,
        "classes": ids if len(ids) <= _SHOWN else _digest(ids),
        "preprocess": _digest(json_text(explainer.preprocess.to_dict())),
        "labels": _digest(json_text(explainer.labels)) if explainer.labels else "none",
        "inputs": _digest(repr(inputs)) if inputs else "none",
        "write": " ".join(written),
    }


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()[:12]


def _digest_of_model(explainer: OpenedModel) -> str:
    """Of the file's content; of weights in other files, which may be huge, by their sizes and times."""
    path, *outside = explainer.files
    with path.open("rb") as file:
        whole = hashlib.file_digest(file, "sha256")
    for weights in outside:
        state = weights.stat()
        whole.update(f"{weights.name} {state.st_size} {state.st_mtime_ns}".encode())
    return whole.hexdigest()[:12]


def one_or_all(values: Sequence[Any]) -> Any:
    """What belongs to the only layer or method, or a list with an entry for each."""
    return values[0] if len(values) == 1 else list(values)


@contextmanager
def put_in_place(path: Path) -> Iterator[Path]:
    """A path to write to; what was written there then takes the place of `path`, at once and as a whole."""
    draft = path.with_name(_UNFINISHED + path.name)
    yield draft
    draft.replace(path)


def remove_unfinished(folder: Path) -> None:
    """Remove what a run that was killed left half written."""
    for path in folder.iterdir():
        if path.name.startswith(_UNFINISHED):
            path.unlink(missing_ok=True)
