"""This module returns the preprocessing that a user names, or that a file beside a model states."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_xcam.common import arguments
from onnx_xcam.common.descriptions import load_description, read_text
from onnx_xcam.common.files import is_file
from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects import DIALECTS

_FILE_SUFFIXES = (".json", ".yaml", ".yml")


def load_preprocess(spec: str | Path | Mapping[str, Any]) -> Preprocess:
    """Return the preprocessing that a preset's name, a JSON or YAML file, or plain data state.

    Files and data hold the settings of `Preprocess` by name, perhaps with `preset: NAME` for the preset that they
    change; or they are a Hugging Face `preprocessor_config.json`, or a timm `config.json` (or its `pretrained_cfg`
    alone).

    Raises:
        PreprocessError: there is no such preset or file, the file is not JSON or YAML, a key is unknown, or a value is
            impossible.
    """
    if isinstance(spec, Mapping):
        return _from_data(spec, "preprocessing")
    if isinstance(spec, str) and spec in PRESETS:
        return PRESETS[spec]
    path = arguments.path("preprocess", spec, PreprocessError)
    if path.suffix.lower() not in _FILE_SUFFIXES:
        raise PreprocessError(
            f"preprocessing {str(spec)!r} is neither a preset nor a .json or .yaml file"
            f"{suggestion_of_few(str(spec), PRESETS)}"
        )
    return _from_data(_read(path), str(path))


def find_sidecar(model: str | Path) -> Path | None:
    """Return the file beside a model that states its preprocessing, or None if there is none.

    For the model `NAME.onnx` it is `NAME.preprocess.json` (or `.yaml`, `.yml`), else `preprocessor_config.json`.
    """
    model = Path(model)
    names = [f"{model.stem}.preprocess{suffix}" for suffix in _FILE_SUFFIXES]
    candidates = (model.with_name(name) for name in [*names, "preprocessor_config.json"])
    return next((path for path in candidates if is_file(path)), None)


def _read(path: Path) -> Mapping[str, Any]:
    """Return the settings in a JSON or YAML file, or raise a PreprocessError that says what is wrong with it."""
    try:
        data = load_description(read_text(path), path.suffix)
    except FileNotFoundError as error:
        raise PreprocessError(f"{path}: no such preprocessing file") from error
    except OSError as error:
        raise PreprocessError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise PreprocessError(f"{path}: not valid {path.suffix[1:].upper()}: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise PreprocessError(
            f"{path}: must hold settings by name, such as scale: 1/255; it holds {type(data).__name__}"
        )
    return data


def _from_data(data: Mapping[str, Any], source: str) -> Preprocess:
    """Return the preprocessing in plain data, in our own settings or in a dialect of a producer."""
    file = DescriptionFile(Path(source), source, "", data)
    for dialect in DIALECTS:
        if dialect.recognises(file):
            return Preprocess(**dialect.read(file).settings)
    own = dict(data)
    base = own.pop("preset", None)
    if base is not None and str(base) not in PRESETS:
        raise PreprocessError(f"{source}: preset is {base!r}{suggestion_of_few(str(base), PRESETS)}")
    return (Preprocess() if base is None else PRESETS[str(base)]).replace(**check_fields(own, source))
