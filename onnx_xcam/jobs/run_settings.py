"""This module keeps the settings of a run in results.jsonl, and refuses to continue a run with other settings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.files import sha256_of
from onnx_xcam.errors import OutputError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.places import as_text
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.records.reading import Line, targets_of
from onnx_xcam.text import json_text

_SHOWN = 60


@dataclass(frozen=True)
class RunSettings:
    """RunSettings hold everything that determines what a run writes; a run may continue one with the same settings.

    Attributes:
        layer: the layers.
        method: the methods.
        maps: the kind of map that `explain` makes, or None.
        model: a digest of the content of the model's files.
        score: the name of the score's tensor.
        classes: the ids of the requested classes, or a digest if they are many.
        preprocess: a digest of the preprocessing.
        labels: a digest of the labels, or "none".
        probabilities: where they come from, or "none".
        inputs: a digest of the values of other inputs, or "none".
        products: how products of 8-bit integers are added up; None if ONNX Runtime's own way is used.
        write: what `explain` writes for each photo; None for `evaluate`.
        measure: what `evaluate` measures; None for `explain`.
        objects: the objects or places, and what they are chosen by; None for a model without objects.
        against: the classes that the explained ones are contrasted with; None without a contrast.
    """

    layer: tuple[str, ...]
    method: tuple[str, ...]
    maps: str | None
    model: str
    score: str
    classes: str
    preprocess: str
    labels: str
    probabilities: str
    inputs: str
    products: str | None
    write: str | None
    measure: str | None
    objects: str | None = None
    against: str | None = None

    def in_line(self) -> dict[str, str]:
        """Return the settings that each line has, which has layers and methods in other fields."""
        return {key: value for key in _IN_LINE if (value := getattr(self, key)) is not None}

    def in_summary(self) -> dict[str, str | list[str]]:
        """Return the settings for summary.json, with layers and methods."""
        return {"layer": list(self.layer), "method": list(self.method), **self.in_line()}


_CALLED = {
    "layer": "layer",
    "method": "method",
    "maps": "kind of map",
    "model": "model file",
    "score": "score",
    "classes": "choice of classes",
    "objects": "choice of objects",
    "against": "contrast",
    "preprocess": "preprocessing",
    "labels": "labels",
    "probabilities": "kind of probabilities",
    "inputs": "value of another input",
    "products": "way of adding up 8-bit products",
    "write": "choice of what is written",
    "measure": "choice of what is measured",
}
"""The name of each setting in messages, in the order in which messages list them."""
_IN_LINE = (
    *("model", "score", "classes", "objects", "against", "preprocess", "labels", "probabilities", "inputs", "products"),
    *("maps", "write", "measure"),
)
"""The settings that each line has, in this order."""
_ALWAYS_COUNTED = (
    *("size", "resize", "crop_fraction", "interpolation", "antialias", "scale", "mean", "std", "channels"),
    *("pad_value", "layout"),
)
"""The settings of a preprocessing that its digest always counts. A setting that was added after these is counted unless
it has its default, so that a run that was made before can be continued.
"""


def run_settings(
    opened: OpenModel,
    cells: Cells,
    *,
    methods: Sequence[str],
    maps: str | None = None,
    write: str | None = None,
    measure: str | None = None,
) -> RunSettings:
    """Return the settings of a run.

    Args:
        opened: the open model.
        cells: what is explained, as `OpenModel.choose` returns it.
        methods, maps, write, measure: as in `RunSettings`.
    """
    ids = "the model's own" if cells.classes is None else _ids(cells.classes)
    inputs = [(name, value.dtype.str, value.shape, _digest(value.tobytes())) for name, value in opened.inputs.items()]
    return RunSettings(
        layer=tuple(opened.shown_layers),
        method=tuple(methods),
        maps=maps,
        model=_digest_of_model(opened),
        score=opened.score,
        classes=_shown(ids),
        objects=_objects(opened, cells),
        against=None if cells.against is None or (cells.against < 0).all() else _shown(_ids(cells.against)),
        preprocess=_digest_of_preprocessing(opened.preprocess),
        labels=_digest(json_text(opened.labels)) if opened.labels else "none",
        probabilities=opened.told_probabilities,
        inputs=_digest(repr(sorted(inputs))) if inputs else "none",
        products="exact" if opened.exact else None,
        write=write,
        measure=measure,
    )


def _objects(opened: OpenModel, cells: Cells) -> str | None:
    """Return which objects are explained and by what they are chosen, or None for a model without objects."""
    candidates = opened.loaded.metadata.candidates
    if candidates is None:
        return None
    if cells.places is not None:
        chosen = as_text(cells.places)
    else:
        chosen = "the model's own" if cells.objects is None else _ids(cells.objects)
    iou = "the model's own" if candidates.iou is None else f"{candidates.iou:g}"
    return f"{_shown(chosen)}; p above {candidates.conf:g}, overlap {iou}"


def _ids(ids: NDArray[np.int64]) -> str:
    """Return the ids of the first photo as a text."""
    return ",".join(map(str, ids[0].tolist()))


def _shown(text: str) -> str:
    """Return a text, or a digest of it if it is long."""
    return text if len(text) <= _SHOWN else _digest(text)


def refuse_other_run(line: Line, wanted: RunSettings, path: Path) -> None:
    """Raise an OutputError if an earlier run had other settings than this one.

    Args:
        line: a line of the earlier results.
        wanted: the settings of this run.
        path: the path of the earlier results.

    Raises:
        OutputError: a setting differs, or the line has no settings.
    """
    settings = line["settings"]
    if not settings:
        raise OutputError(f"'{path}' does not tell how it was made, so it cannot be continued; name another folder.")
    refuse_other_command(settings, wanted, path)
    layers, methods = targets_of(line)
    earlier = {**settings, "layer": layers, "method": methods}
    now = wanted.in_summary()
    differ = [key for key in _CALLED if earlier.get(key) != now.get(key)]
    if differ:
        pairs = ((key, _short(earlier.get(key, "none")), _short(now.get(key, "none"))) for key in differ)
        changes = (f"another {_CALLED[key]} ({before}, now {after})" for key, before, after in pairs)
        raise OutputError(
            f"'{path}' cannot be continued, since it was made with {' and '.join(changes)}; give the options of that "
            "run, or name another folder with -o."
        )


def refuse_other_command(settings: Mapping[str, str], wanted: RunSettings, path: Path) -> None:
    """Raise an OutputError if a file of results was written by another command or program.

    Lines of `explain` have the setting `write`, and lines of `evaluate` the setting `measure`.

    Raises:
        OutputError: the settings are not those of this command.
    """
    made = [key for key in ("write", "measure") if key in settings]
    if not made or getattr(wanted, made[0]) is None:
        by = {"write": "by `explain`", "measure": "by `evaluate`"}[made[0]] if made else "by something else"
        raise OutputError(f"'{path}' was written {by}; name another folder with -o, or move that file away first.")


def _short(value: str | Sequence[str]) -> str:
    """Return a setting as a text for messages, cut off where it is long."""
    text = value if isinstance(value, str) else ", ".join(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def digest_of_files(path: Path) -> str:
    """Return a short digest of a file's content, or of the names and contents of all files in a folder."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return _digest(repr([(file.relative_to(path).as_posix(), _digest_of_file(file)) for file in files]))


def _digest_of_preprocessing(preprocess: Preprocess) -> str:
    """Return a short digest of a preprocessing; see `_ALWAYS_COUNTED`."""
    defaults = Preprocess().to_dict()
    stated = preprocess.to_dict().items()
    return _digest(json_text({key: value for key, value in stated if key in _ALWAYS_COUNTED or value != defaults[key]}))


def _digest_of_model(opened: OpenModel) -> str:
    """Return a short digest of the content of the model's file and of the files of its external weights."""
    return _digest(" ".join(_digest_of_file(file) for file in opened.files))


def _digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's content, or raise an OutputError if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror or error}.") from error


def _digest(data: str | bytes) -> str:
    """Return a short digest of a text or of bytes."""
    return hashlib.sha256(data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data).hexdigest()[:12]
