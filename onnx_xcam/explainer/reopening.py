"""An Explainer in another process, or a copy of one: what it was opened with, and a check that this is still so.

Sessions of ONNX Runtime cannot be copied, and a model's bytes are not kept. So a model is opened again, from its file,
and the copy must be as the original was: the same files, the same labels, preprocessing and values of inputs.
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
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.surgery.files.source import ModelLike

_PATHS = (str, os.PathLike)


@dataclass(frozen=True)
class OpenedWith:
    """What an Explainer was opened with, as it holds in any folder.

    Attributes:
        model: the path of its file.
        options: how it was opened.
        methods: names of the CAM methods, as they were given.
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
    """What opens an Explainer again; None for a model that is in no file."""
    if not isinstance(model, _PATHS):
        return None
    _, anywhere_too = anywhere(model, options)
    return OpenedWith(Path(model).absolute(), anywhere_too, methods, relu, fuse)


def anywhere(model: ModelLike, options: ModelOptions) -> tuple[ModelLike, ModelOptions]:
    """A model and its options as they hold in any folder, also after the process has gone to another one."""
    given = options.preprocess
    folders = options.allow_folders
    kept = {name: _copied(getattr(options, name)) for name in ("layers", "providers", "labels", "preprocess")}
    return _absolute_file(model), replace(
        options,
        layers=kept["layers"],
        providers=kept["providers"],
        labels=_absolute_file(kept["labels"]),
        preprocess=given if isinstance(given, str) and given in PRESETS else _absolute_file(kept["preprocess"]),
        allow_folders=[Path(one).absolute() for one in ([folders] if isinstance(folders, _PATHS) else folders)],
        inputs=None
        if options.inputs is None
        else {name: _absolute_file(copy.deepcopy(value)) for name, value in dict(options.inputs).items()},
    )


def _copied(value: Any) -> Any:
    """A list or a dict as it is now."""
    return copy.deepcopy(value) if isinstance(value, list | dict) else value


def read_once(value: Any) -> Any:
    """What an iterator gives, as a list, since it is needed more than once."""
    return list(value) if isinstance(value, Iterator) else value


def _absolute_file(value: Any) -> Any:
    """A path that leads to the same file from any folder; numbers and data as they are."""
    if isinstance(value, _PATHS):
        return Path(value).absolute()
    return value


@dataclass(frozen=True)
class Identity:
    """What must be the same of an Explainer that is opened again.

    Attributes:
        files: of the model, with their digests.
        settings: other things by what to call them, such as the labels.
        values: of the inputs beside the picture.
    """

    files: dict[Path, str]
    settings: dict[str, Any]
    values: dict[str, NDArray[Any]]

    def require(self, other: Identity) -> None:
        """Make sure that an Explainer that was opened again is as it was.

        Raises:
            ModelError: it is not.
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
    """Size and time of each file, to see later whether it was written to.

    Raises:
        ModelError: one cannot be read.
    """
    try:
        return [(status.st_size, status.st_mtime_ns) for status in (file.stat() for file in files)]
    except OSError as error:
        raise _gone(error) from error


def digests(files: Sequence[Path]) -> dict[Path, str]:
    """What each file holds, as a digest.

    Raises:
        ModelError: one cannot be read.
    """
    try:
        return {path.absolute(): sha256_of(path) for path in files}
    except OSError as error:
        raise _gone(error) from error


def _gone(error: OSError) -> ModelError:
    return ModelError(
        f"The Explainer cannot be opened again: '{error.filename}' cannot be read ({error.strerror}); put it back, or "
        "make a new one."
    )
