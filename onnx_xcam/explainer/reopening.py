"""This module keeps how an Explainer was opened, so that a pickle or a copy of it can open the same model again.

Sessions of ONNX Runtime cannot be copied, and a model's bytes are not kept. So the model is opened again from its file,
and the copy must agree with the original in its files, labels, preprocessing and values of inputs.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.common.files import sha256_of
from onnx_xcam.errors import ModelError
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.producers.stated import is_preset
from onnx_xcam.surgery.files.source import ModelLike

_PATHS = (str, os.PathLike)


@dataclass(frozen=True)
class OpenedWith:
    """OpenedWith states how an Explainer was opened, with absolute paths, so that it holds in any working folder.

    Attributes:
        model: the path of the model's file.
        options: how the model was opened.
        methods: the names of the CAM methods, as they were given.
        relu, fuse: as for `Explainer`.
    """

    model: Path
    options: ModelOptions
    methods: tuple[str, ...]
    relu: bool
    fuse: Fusion | None


def opened_with(
    model: ModelLike, options: ModelOptions, methods: tuple[str, ...], relu: bool, fuse: Fusion | None
) -> OpenedWith | None:
    """Return what is needed to open an Explainer again, or None for a model in memory."""
    if not isinstance(model, _PATHS):
        return None
    _, absolute = anywhere(model, options)
    return OpenedWith(Path(model).absolute(), absolute, methods, relu, fuse)


def anywhere(model: ModelLike, options: ModelOptions) -> tuple[ModelLike, ModelOptions]:
    """Return a model and its options with absolute paths, so that they hold after a change of the working folder."""
    given = options.preprocess
    folders = options.allow_folders
    kept = {name: _copied(getattr(options, name)) for name in ("layers", "providers", "labels", "preprocess")}
    return _absolute_file(model), replace(
        options,
        layers=kept["layers"],
        providers=kept["providers"],
        labels=_absolute_file(kept["labels"]),
        preprocess=given if is_preset(given) else _absolute_file(kept["preprocess"]),
        allow_folders=[Path(one).absolute() for one in ([folders] if isinstance(folders, _PATHS) else folders)],
        inputs=None
        if options.inputs is None
        else {name: _absolute_file(copy.deepcopy(value)) for name, value in dict(options.inputs).items()},
    )


def _copied(value: Any) -> Any:
    """Return a copy of a list or a dict, which the caller may change later; other values are returned themselves."""
    return copy.deepcopy(value) if isinstance(value, list | dict) else value


def read_once(value: Any) -> Any:
    """Return an iterator's items as a list, since they are needed more than once; other values are returned as is."""
    return list(value) if isinstance(value, Iterator) else value


def _absolute_file(value: Any) -> Any:
    """Return a path as an absolute path; other values are returned as is."""
    if isinstance(value, _PATHS):
        return Path(value).absolute()
    return value


@dataclass(frozen=True)
class Identity:
    """An Identity holds what must be the same of an Explainer that is opened again.

    Attributes:
        files: the digests of the model's files.
        settings: other things that must be the same, by their names in messages, such as the labels.
        values: the values of the inputs beside the picture.
    """

    files: dict[Path, str]
    settings: dict[str, Any]
    values: dict[str, NDArray[Any]]

    def require(self, other: Identity) -> None:
        """Make sure that an Explainer which was opened again is as it was before.

        Raises:
            ModelError: something has changed; the message names it.
        """
        changed = [f"'{file}'" for file, digest in self.files.items() if other.files.get(file) != digest]
        changed += [name for name, value in self.settings.items() if other.settings[name] != value]
        same = self.values.keys() == other.values.keys()
        if not same or any(not np.array_equal(value, other.values[name]) for name, value in self.values.items()):
            changed.append("the inputs")
        if changed:
            raise ModelError(
                f"The Explainer cannot be opened again as it was: {', '.join(changed)} changed since; make a new one."
            )


def stamps(files: Sequence[Path]) -> list[tuple[int, int]]:
    """Return size and time of each file, to see later whether it was written to.

    Raises:
        ModelError: a file cannot be read.
    """
    try:
        return [(status.st_size, status.st_mtime_ns) for status in (file.stat() for file in files)]
    except OSError as error:
        raise _gone(error) from error


def digests(files: Sequence[Path]) -> dict[Path, str]:
    """Return the SHA-256 of each file by its absolute path.

    Raises:
        ModelError: a file cannot be read.
    """
    try:
        return {path.absolute(): sha256_of(path) for path in files}
    except OSError as error:
        raise _gone(error) from error


def _gone(error: OSError) -> ModelError:
    """Return the ModelError for a file that cannot be read any more."""
    return ModelError(
        f"The Explainer cannot be opened again: '{error.filename}' cannot be read ({error.strerror}); put it back, or "
        "make a new one."
    )
