"""This module tells whether a model's input can take the values that a source states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.prepare import carries
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.producers.statement import Statement

MODEL_INPUT = "the model's input"
"""What messages call the shape of a model's input as a source."""
BY_CHANNEL = ("mean", "std", "pad_value")
"""The settings that may have a number for each channel."""


def gives_way(statement: Statement, spec: InputSpec) -> bool:
    """Tell whether the values of a source give way to the model, whose input of whole numbers cannot carry them.

    Such a model normalises pixels itself, and what lies beside it describes the network within. What the user says, or
    wrote in our own settings, never gives way.
    """
    if spec.dtype.kind not in "iu" or statement.evidence == "argument" or statement.own:
        return False
    settings = statement.group("values")
    if not settings or "white" in settings or "window" in settings:
        return False
    check_counts(statement, settings, spec)
    return not carries(Preprocess(**settings), spec.dtype)


def makes_as_many(settings: Mapping[str, Any], spec: InputSpec) -> bool:
    """Tell whether the settings `channels` and `bands` make as many channels as an input has; RGB leaves bands open."""
    if settings.get("bands") is not None:
        return bool(len(settings["bands"]) == spec.channels)
    if not spec.takes_photos:
        return bool(settings["channels"] == "RGB")
    return bool((settings["channels"] == "GRAY") == (spec.channels == 1))


def check_counts(statement: Statement | None, settings: Mapping[str, Any], spec: InputSpec) -> None:
    """Make sure that settings which a source states for each channel are as many as the channels of the input.

    What the user says is checked with each picture, whose bands it may choose.

    Raises:
        PreprocessError: they are not.
    """
    if statement is None or statement.evidence == "argument":
        return
    for name in BY_CHANNEL:
        values = settings.get(name)
        if isinstance(values, tuple) and len(values) not in (1, spec.channels):
            has = "one" if spec.channels == 1 else str(spec.channels)
            raise PreprocessError(
                f"{statement.source} states {name} {list(values)} for {len(values)} channels, but {MODEL_INPUT} has "
                f"{has}; state its values with --preprocess (preprocess=)"
            )
