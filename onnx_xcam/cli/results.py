"""results.jsonl: a line per photo, written as a whole, and read again to continue a run that was cut short.

A line is added when all files of its photo are in place, so whatever ends the program, what the lines tell is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cli.options import say
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
    "probabilities": "kind of probabilities",
    "inputs": "value of another input",
    "write": "choice of what is written",
    "measure": "choice of what is measured",
}


def _refuse_other_run(record: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    settings = record.get("settings")
    if not isinstance(settings, dict):
        raise OutputError(f"'{path}' does not tell how it was made, so it cannot be continued; name another folder.")
    earlier = {"layer": record.get("layer"), "method": record.get("method"), **settings}
    differ = [key for key in _CALLED if earlier.get(key) != wanted.get(key)]
    if differ:
        pairs = ((key, _short(earlier.get(key, "none")), _short(wanted.get(key, "none"))) for key in differ)
        changes = (f"another {_CALLED[key]} ({before}, now {now})" for key, before, now in pairs)
        raise OutputError(
            f"'{path}' cannot be continued, since it was made with {' and '.join(changes)}; give the options of that "
            "run, or name another folder with -o."
        )


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def run_settings(
    opened: OpenedModel, classes: NDArray[np.int64] | None, *, layer: Any, method: Any, **more: str
) -> dict[str, Any]:
    """What decides what a run writes, to be compared with another run's; long things as digests.

    Args:
        opened: the model of the run.
        classes: as `OpenedModel.choose` gives them.
        layer, method: as the lines have them.
        more: what else decides it, by a key of `_CALLED`.
    """
    ids = "the model's own" if classes is None else ",".join(map(str, classes[0].tolist()))
    inputs = [(name, value.dtype.str, value.shape, value.tobytes()) for name, value in opened.inputs.items()]
    return {
        "layer": layer,
        "method": method,
        "model": _digest_of_model(opened),
        "score": opened.score,
        "classes": ids if len(ids) <= _SHOWN else _digest(ids),
        "preprocess": _digest(json_text(opened.preprocess.to_dict())),
        "labels": _digest(json_text(opened.labels)) if opened.labels else "none",
        "probabilities": opened.told_probabilities,
        "inputs": _digest(repr(inputs)) if inputs else "none",
        **more,
    }


def digest_of_files(path: Path) -> str:
    """Of the names, sizes and times of a file, or of all files in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    states = [(file.as_posix(), file.stat()) for file in files if file.is_file()]
    return _digest(repr([(name, state.st_size, state.st_mtime_ns) for name, state in states]))


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()[:12]


def _digest_of_model(opened: OpenedModel) -> str:
    """Of the file's content; of weights in other files, which may be huge, by their sizes and times."""
    path, *outside = opened.files
    with path.open("rb") as file:
        whole = hashlib.file_digest(file, "sha256")
    for weights in outside:
        state = weights.stat()
        whole.update(f"{weights.name} {state.st_size} {state.st_mtime_ns}".encode())
    return whole.hexdigest()[:12]


def one_or_all(values: Sequence[Any]) -> Any:
    """What belongs to the only layer or method, or a list with an entry for each."""
    return values[0] if len(values) == 1 else list(values)


def settings_in_line(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a line says of them beside its layer and method."""
    return {key: value for key, value in settings.items() if key not in ("layer", "method")}


def add_line(lines: BinaryIO, record: Mapping[str, Any]) -> None:
    """Add a photo's line, and have it on its way to the disk."""
    lines.write(json_text(record).encode("utf-8") + b"\n")
    lines.flush()


def failure_line(image: str, error: str) -> str:
    """What is said of a photo that failed; many errors name it already."""
    return f"error: {error}" if image in error else f"error: {image}: {error}"


def say_interrupted(done: int, total: int) -> None:
    """How to go on."""
    say(f"interrupted: {done} of {total} photos are done; the same command with --resume does the others.")


def prepare_folder(folder: Path) -> None:
    """Make the folder and try to write to it, before any time goes into running a model.

    Raises:
        OutputError: it cannot be made or written to.
    """
    probe = folder / ".onnx-xcam-probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"")
        probe.unlink()
        remove_unfinished(folder)
    except OSError as error:
        raise OutputError(
            f"The folder '{folder}' cannot be written to: {error.strerror or error}. Name another with -o."
        ) from error


@contextmanager
def written(path: Path) -> Iterator[None]:
    """Turn what goes wrong with a file into an OutputError; a closed stdout (`| head`) is not about the file."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}.") from error


def without_dropped(path: Path, earlier: Earlier) -> None:
    """Leave only the lines that are kept in the file.

    Raises:
        OutputError: it cannot be written.
    """
    if earlier.dropped:
        with written(path), put_in_place(path) as draft:
            draft.write_bytes(b"".join(line + b"\n" for line in earlier.kept))


def begun_anew(path: Path, *, quiet: bool) -> Earlier:
    """An empty file, and a word on what was in it.

    Raises:
        OutputError: it cannot be written.
    """
    with written(path):
        if not quiet and path.is_file() and path.stat().st_size:
            say(f"note: the earlier '{path}' is replaced; --resume would have continued it.")
        path.write_bytes(b"")
    return Earlier({}, (), 0)


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
