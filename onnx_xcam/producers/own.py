"""This module reads the preprocessing that users of onnx_xcam write themselves, in the settings of `Preprocess`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from onnx_xcam.common.descriptions import DATA_SUFFIXES
from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.producers.named import named
from onnx_xcam.producers.statement import Statement

PREPROCESS_FILES = tuple(f"{{stem}}.preprocess{suffix}" for suffix in DATA_SUFFIXES)
"""The names of files with our own settings beside a model, "{stem}" being its name without its suffix."""
LABELS_FILES = ("{stem}.labels.txt", "{stem}.labels.json")
"""The names of files with labels beside a model that are meant for it alone."""


def own_statement(data: Mapping[str, Any], source: str) -> Statement:
    """Return what plain data state in our own settings, perhaps with `preset: NAME` for the preset that they change.

    Such data are a whole preprocessing: settings that are left out have their defaults.

    Raises:
        PreprocessError: a setting or the preset is unknown, or a value impossible; the message names key and source.
    """
    given = dict(data)
    base = given.pop("preset", None)
    preset = Statement(source) if base is None else _preset(str(base), source)
    own = check_fields(given, source)

    def whole(settings: Mapping[str, Any]) -> Statement:
        return Statement.whole(source, Preprocess(**settings).replace(**own))

    # A size that is stated here is meant for every model.
    sizes = [] if "size" in own else [one["size"] for one in preset.at_sizes]
    others = tuple(whole(preset.at(size).settings).settings for size in sizes)
    return replace(whole(preset.settings), own=True, at_sizes=others)


def _preset(name: str, source: str) -> Statement:
    """Return what a preset states, or published weights by name."""
    if name in PRESETS:
        return Statement.whole(source, PRESETS[name])
    try:
        published = named(name)
    except PreprocessError as error:
        raise PreprocessError(f"{source}: preset: {error}") from error
    if published is None:
        raise PreprocessError(f"{source}: preset is {name!r}{suggestion_of_few(name, PRESETS)}")
    return published
