"""This module finds the files beside a model that describe it, in the dialects of their producers.

Looked for are exact names, in the folder of the model, and in the folder above it where the model lies in a folder
`onnx` (transformers.js, Optimum) or in one that is named by a version number (Triton, TensorFlow Serving). A file that
several dialects recognise is read by each of them. A model that is a link has its files beside the link, as in the
caches of model hubs, where `snapshots/REVISION/model.onnx` leads to a blob without a name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_xcam.common.descriptions import FOUND_FILE, FOUND_YAML, check_found, is_yaml
from onnx_xcam.common.files import is_file
from onnx_xcam.errors import LabelsError, PreprocessError, XcamError
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.plain_labels import is_named
from onnx_xcam.producers.dialects.registry import DIALECTS
from onnx_xcam.producers.own import LABELS_FILES, PREPROCESS_FILES
from onnx_xcam.producers.stated import read_labels, read_settings, refused
from onnx_xcam.producers.statement import Statement

_MOST_IN_ALL = 2
"""All files beside a model together may have so many times the bytes of the largest one."""
_LONGEST_VERSION = 18
"""The most digits in a folder's name that is taken for a version number."""


def statements_beside(model: Path) -> list[Statement]:
    """Return what the files beside a model state, the strongest first; what cannot be followed is stated as a refusal.

    The files that are named after the model come first, then the dialects in their order, in each folder.
    """
    found = _Folders(model)
    return [*_own(model, found), *(statement for dialect in DIALECTS for statement in _of(dialect, found))] + [
        _passed_over(source, *why) for source, why in found.broken.items()
    ]


def config_beside(model: Path) -> dict[str, Any]:
    """Return the content of the `config.json` of a model, as Hugging Face writes it; {} where there is none."""
    found = _Folders(model)
    return next((file.data for file in found.files("config.json") if isinstance(file.data, dict)), {})


class _Folders:
    """_Folders read files beside a model by their names, each file once.

    Attributes:
        stem: the model's name without its suffix.
        broken: the path of each file that has a name that was looked for and cannot be read, and the reason.
    """

    def __init__(self, model: Path) -> None:
        folder = model.absolute().parent
        self.stem = model.stem
        self.broken: dict[str, tuple[Path, str]] = {}
        self._folders = [(folder, "beside the model")]
        if folder.name == "onnx" or (folder.name.isdecimal() and len(folder.name) <= _LONGEST_VERSION):
            self._folders.append((folder.parent, "in the folder above the model's"))
        self._read: dict[Path, DescriptionFile | None] = {}
        self._bytes = {True: 0, False: 0}

    def paths(self, name: str) -> Iterator[tuple[Path, str]]:
        """Yield the files of a name, "{stem}" being the model's, with what messages call each."""
        name = name.replace("{stem}", self.stem)
        for folder, where in self._folders:
            if is_file(folder / name):
                yield folder / name, f"'{name}' {where}"

    def files(self, name: str) -> Iterator[DescriptionFile]:
        """Yield the files of a name that can be read."""
        for path, source in self.paths(name):
            if path not in self._read:
                self._read[path] = self._file(path, source)
            if (file := self._read[path]) is not None:
                yield file

    def _file(self, path: Path, source: str) -> DescriptionFile | None:
        """Read a file, or note why it cannot be read and return None."""
        try:
            self._count(path)
            return DescriptionFile.read(path, source)
        except (OSError, ValueError) as error:
            reason = " ".join(str(getattr(error, "strerror", None) or error).split())
            reason = "not a text in UTF-8" if isinstance(error, UnicodeDecodeError) else reason
            self.broken[source] = path, reason
            return None

    def _count(self, path: Path) -> None:
        """Count the bytes of a file.

        Raises:
            OSError: there is no such file.
            ValueError: it is large, or many are; opening a model must take no more than a moment.
        """
        kind = is_yaml(path)
        self._bytes[kind] += check_found(path)
        if self._bytes[kind] > _MOST_IN_ALL * (FOUND_YAML if kind else FOUND_FILE):
            raise ValueError("the files beside the model are too many and too large; name the one that is meant")


def _passed_over(source: str, path: Path, reason: str) -> Statement:
    """Return the remark that a file cannot be read."""
    remark = (f"{source} cannot be read ({reason}) and is passed over.",)
    return Statement.of(source, label_remarks=remark) if is_named(path.name) else Statement.of(source, remarks=remark)


def _own(model: Path, found: _Folders) -> Iterator[Statement]:
    """Yield what the files state that are named after the model."""
    for names, read in ((PREPROCESS_FILES, _settings), (LABELS_FILES, _labels)):
        first = next((pair for name in names for pair in found.paths(name)), None)
        if first is not None:
            try:
                yield read(*first)
            except XcamError as error:
                yield refused(first[1], error)


def _settings(path: Path, source: str) -> Statement:
    """Return what a file with preprocessing states that is named after the model."""
    _check(path, PreprocessError)
    return read_settings(path, source)


def _labels(path: Path, source: str) -> Statement:
    """Return what a file with labels states that is named after the model."""
    _check(path, LabelsError)
    return Statement(source, labels=read_labels(path))


def _check(path: Path, failure: type[XcamError]) -> None:
    """Raise an error if a file that was found is too large to be read unasked."""
    try:
        check_found(path)
    except OSError:
        return  # reading it says why
    except ValueError as error:
        raise failure(f"{path}: is not read: {error}") from error


def _of(dialect: Dialect, found: _Folders) -> Iterator[Statement]:
    """Yield what the files of a dialect state; of those in several folders the one in the model's own comes first."""
    for name in dialect.files:
        for file in found.files(name):
            if not dialect.recognises(file):
                continue
            try:
                yield replace(dialect.read(file), source=file.source)
            except (PreprocessError, LabelsError) as error:
                yield refused(file.source, error)
