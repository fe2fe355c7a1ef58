"""This module reads the preprocessing and the labels that a user states, by name, as a file, or as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx_xcam.common import arguments
from onnx_xcam.common.arguments import several, short_repr
from onnx_xcam.common.descriptions import DATA_SUFFIXES
from onnx_xcam.common.files import is_file
from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import LabelsError, PreprocessError, XcamError
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.labels import load_labels
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects.registry import DIALECTS
from onnx_xcam.producers.named import LIBRARIES, is_name, meant, named
from onnx_xcam.producers.own import own_statement
from onnx_xcam.producers.statement import Statement

PreprocessLike = str | Path | Mapping[str, Any] | Preprocess
"""A description of preprocessing: a preset's name, a file, a dict, or what was made of one of these."""
LabelsLike = str | Path | Sequence[str]
"""A description of labels: a file, or the labels by class id."""


def stated_preprocess(spec: PreprocessLike) -> Statement:
    """Return what the argument `preprocess` states.

    It is a preset's name, such as "imagenet", or that of published weights, such as "timm:resnet50.a1_in1k"; a file in
    one of the dialects, or in our own settings; or the data of such a file.

    Raises:
        PreprocessError: there is no such preset or file, the file is in no dialect, a key is unknown, or a value is
            impossible.
    """
    if isinstance(spec, Preprocess):
        statement = _binding(Statement.whole("the argument", spec))
    elif isinstance(spec, Mapping):
        statement = _of_file(DescriptionFile(Path("preprocessing"), "preprocessing", "", spec))
        statement = replace(statement, source="the argument")
    elif isinstance(spec, str) and spec in PRESETS:
        statement = _binding(Statement.whole(repr(spec), PRESETS[spec]))
    elif isinstance(spec, str) and (published := named(spec)) is not None:
        statement = published
    else:
        path = arguments.path("preprocess", spec, PreprocessError)
        statement = replace(_of_file(_read(path, spec)), source=repr(str(path)))
    return replace(statement, evidence="argument")


def is_preset(spec: object) -> bool:
    """Tell whether the argument `preprocess` names a preset or published weights, and no file."""
    return isinstance(spec, str) and (spec in PRESETS or is_name(spec))


def stated_labels(labels: LabelsLike) -> Statement:
    """Return what the argument `labels` states: a file in one of the dialects or with labels alone, or the labels.

    Raises:
        LabelsError: there is no such file, it has no labels, or the argument is something else.
    """
    if isinstance(labels, str | Path):
        names, source = read_labels(Path(labels)), f"'{labels}'"
    else:
        names, source = _given_labels(labels), "the argument"
    return Statement(source, labels=names, evidence="argument", binding=True)


def load_preprocess(spec: PreprocessLike) -> Preprocess:
    """Return the preprocessing that a description states by itself; settings that it leaves open have their defaults.

    Raises:
        PreprocessError: as `stated_preprocess`.
    """
    return Preprocess(**stated_preprocess(spec).settings)


def read_settings(path: Path, source: str) -> Statement:
    """Return what a file in one of the dialects, or in our own settings, states of pictures; `source` is what the
    statement is called.

    Raises:
        PreprocessError: the file cannot be read, is in no dialect, or states something impossible.
    """
    return replace(_of_file(_read(path, path)), source=source, binding=False)


def _binding(statement: Statement) -> Statement:
    """Return the statement as one whose size must fit the model."""
    return replace(statement, binding=True)


def _read(path: Path, spec: object) -> DescriptionFile:
    """Return a preprocessing file's content, or raise a PreprocessError that says what is wrong with it."""
    if not is_file(path) and path.suffix.lower() not in DATA_SUFFIXES:
        known = [*PRESETS, *(f"{library}:NAME" for library in LIBRARIES)]
        names = meant(str(spec))
        advice = f"; did you mean {' or '.join(names)}?" if names else suggestion_of_few(str(spec), known)
        raise PreprocessError(f"preprocessing {str(spec)!r} is neither a preset nor a file{advice}")
    try:
        return DescriptionFile.read(path, str(path))
    except FileNotFoundError as error:
        raise PreprocessError(f"{path}: no such preprocessing file") from error
    except OSError as error:
        raise PreprocessError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PreprocessError(f"{path}: not a text file in UTF-8: {error.reason} at byte {error.start}") from error
    except ValueError as error:
        kind = path.suffix[1:].upper() if path.suffix.lower() in DATA_SUFFIXES else "a description"
        raise PreprocessError(f"{path}: not valid {kind}: {' '.join(str(error).split())}") from error


def _of_file(file: DescriptionFile) -> Statement:
    """Return what a file states of pictures: in the first dialect that is its own, else in our own settings.

    Raises:
        PreprocessError: the file is in no dialect, or states nothing of pictures.
    """
    spoken = [dialect for dialect in DIALECTS if dialect.recognises(file)]
    for dialect in spoken:
        statement = dialect.read(file)
        if statement.refusal is not None:
            raise statement.refusal
        if statement.settings:
            return statement
    if spoken:
        names = " or ".join(dialect.name for dialect in spoken)
        raise PreprocessError(f"{file.source}: this file of {names} states no preprocessing; give it with --labels")
    if isinstance(file.data, Mapping):
        return _binding(own_statement(file.data, file.source))
    if file.path.suffix.lower() in DATA_SUFFIXES:
        raise PreprocessError(
            f"{file.source}: must hold settings by name, such as scale: 1/255; it holds {type(file.data).__name__}"
        )
    raise PreprocessError(
        f"{file.source}: the preprocessing in it is written in no way that is known; state the settings in a .json or "
        ".yaml file"
    )


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the labels in a file: in the first dialect that finds some, else by the rules of `load_labels`.

    Raises:
        LabelsError: the file cannot be read, or has no labels.
    """
    try:
        file = DescriptionFile.read(path, str(path))
    except (OSError, ValueError):
        return tuple(load_labels(path))  # which says what is wrong with the file
    for dialect in DIALECTS:
        if dialect.recognises(file):
            try:
                labels = dialect.read(file).labels
            except PreprocessError:
                continue  # what it says of pictures does not matter here
            if labels is not None:
                return labels
    return tuple(load_labels(path))


def _given_labels(labels: Any) -> tuple[str, ...]:
    """Return labels that were given as a sequence, or raise a LabelsError if they are something else."""
    names = several("labels", labels, "labels by class id, or a labels file", LabelsError)
    if wrong := [name for name in names if isinstance(name, bool) or not isinstance(name, str | int | float)]:
        raise LabelsError(f"A label is a text, not {short_repr(wrong[0])}.")
    return tuple(map(str, names))


def refused(source: str, error: XcamError) -> Statement:
    """Return the statement of a source that cannot be followed."""
    return Statement(source, refusal=error)
