"""What decides what a run writes: every line of results.jsonl says it, and a run that continues another compares it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.files import sha256_of
from onnx_xcam.errors import OutputError
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.text import json_text

_SHOWN = 60
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
    "products": "way of adding up 8-bit products",
    "write": "choice of what is written",
    "measure": "choice of what is measured",
}


def run_settings(
    opened: OpenModel, classes: NDArray[np.int64] | None, *, layer: Any, method: Any, **more: str
) -> dict[str, Any]:
    """What decides what a run writes, to be compared with another run's; long things as digests.

    Args:
        opened: the model of the run.
        classes: as `OpenModel.choose` gives them.
        layer, method: as the lines have them.
        more: what else decides it, by a key of `_CALLED`.
    """
    ids = "the model's own" if classes is None else ",".join(map(str, classes[0].tolist()))
    inputs = [(name, value.dtype.str, value.shape, _digest(value.tobytes())) for name, value in opened.inputs.items()]
    return {
        "layer": layer,
        "method": method,
        "model": _digest_of_model(opened),
        "score": opened.score,
        "classes": ids if len(ids) <= _SHOWN else _digest(ids),
        "preprocess": _digest(json_text(opened.preprocess.to_dict())),
        "labels": _digest(json_text(opened.labels)) if opened.labels else "none",
        "probabilities": opened.told_probabilities,
        "inputs": _digest(repr(sorted(inputs))) if inputs else "none",
        **({"products": "exact"} if opened.exact else {}),
        **more,
    }


def settings_in_line(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a line says of them beside its layer and method."""
    return {key: value for key, value in settings.items() if key not in ("layer", "method")}


def refuse_other_run(record: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue a run with other settings.

    Args:
        record: a line of its results.
        wanted: what `run_settings` says of this run.
        path: of its results.

    Raises:
        OutputError: it had other ones, or does not tell.
    """
    settings = record.get("settings")
    if not isinstance(settings, dict):
        raise OutputError(f"'{path}' does not tell how it was made, so it cannot be continued; name another folder.")
    refuse_other_command(record, wanted, path)
    earlier = {"layer": record.get("layer"), "method": record.get("method"), **settings}
    differ = [key for key in _CALLED if earlier.get(key) != wanted.get(key)]
    if differ:
        pairs = ((key, _short(earlier.get(key, "none")), _short(wanted.get(key, "none"))) for key in differ)
        changes = (f"another {_CALLED[key]} ({before}, now {now})" for key, before, now in pairs)
        raise OutputError(
            f"'{path}' cannot be continued, since it was made with {' and '.join(changes)}; give the options of that "
            "run, or name another folder with -o."
        )


def refuse_other_command(record: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    """Refuse to continue or replace what another command has written: `explain` says what is written, `evaluate` what
    is measured.

    Raises:
        OutputError: another one has, or another program.
    """
    settings = record.get("settings")
    made = [key for key in ("write", "measure") if isinstance(settings, dict) and key in settings]
    if not made or made[0] not in wanted:
        by = {"write": "by `explain`", "measure": "by `evaluate`"}[made[0]] if made else "by something else"
        raise OutputError(f"'{path}' was written {by}; name another folder with -o, or move that file away first.")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def digest_of_files(path: Path) -> str:
    """A short digest of what is in a file, or in all files of a folder, and of their names in it."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return _digest(repr([(file.relative_to(path).as_posix(), _digest_of_file(file)) for file in files]))


def _digest_of_model(opened: OpenModel) -> str:
    """A short digest of what is in the model's file, and in those that hold its weights."""
    return _digest(" ".join(_digest_of_file(file) for file in opened.files))


def _digest_of_file(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror or error}.") from error


def _digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()[:12]
