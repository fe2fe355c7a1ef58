"""An Explainer in another process, or a copy of one: what it was opened with, and a check that this is still so.

Sessions of ONNX Runtime cannot be copied, and a model's bytes are not kept. So a model is opened again, from its file,
and the copy must be as the original was: the same files, the same labels, preprocessing and values of inputs.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.files import sha256_of
from onnx_xcam.errors import ModelError
from onnx_xcam.images.presets import PRESETS

_PATHS = (str, os.PathLike)


def opened_with(model: Any, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of an Explainer as they hold in any folder; None for a model that is in no file."""
    return anywhere(model, options) if isinstance(model, _PATHS) else None


def anywhere(model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """A model and options of `Explainer` as they hold in any folder, also after the process has gone to another one."""
    kept = {name: copy.deepcopy(value) if isinstance(value, list | dict) else value for name, value in options.items()}
    kept["model"] = _absolute_file(model)
    if "labels" in kept:
        kept["labels"] = _absolute_file(kept["labels"])
    if "preprocess" in kept and (not isinstance(kept["preprocess"], str) or kept["preprocess"] not in PRESETS):
        kept["preprocess"] = _absolute_file(kept["preprocess"])
    folders = kept["allow_folders"]
    kept["allow_folders"] = [Path(one).absolute() for one in ([folders] if isinstance(folders, _PATHS) else folders)]
    if kept["inputs"] is not None:
        values = dict(kept["inputs"]).items()
        kept["inputs"] = {name: _absolute_file(copy.deepcopy(value)) for name, value in values}
    return kept


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
