"""This module finds a model's preprocessing where it is stated, or assumes one and says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_xcam.images.preprocess import InputSpec, Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.metadata import read_hints
from onnx_xcam.producers.stated import find_sidecar, load_preprocess

PreprocessLike = str | Path | Mapping[str, Any] | Preprocess
"""A description of preprocessing: a preset's name, a file, a dict, or what was made of one of these."""


def stated_preprocess(
    preprocess: PreprocessLike | None, metadata: Mapping[str, str], path: Path | None
) -> tuple[Preprocess | None, str]:
    """Return the preprocessing that the argument, the metadata or a file beside the model states, and which of them.

    The result is None and an empty text if none of them states one.
    """
    if isinstance(preprocess, Preprocess):
        return preprocess, "the argument"
    if preprocess is not None:
        name = repr(str(preprocess)) if isinstance(preprocess, str | Path) else "the argument"
        return load_preprocess(preprocess), name
    if (own := read_hints(metadata).preprocess) is not None:
        return load_preprocess(own), "the model's metadata"
    if path and (sidecar := find_sidecar(path)):
        return load_preprocess(sidecar), f"'{sidecar.name}' beside the model"
    return None, ""


def assumed_preprocess(spec: InputSpec) -> tuple[Preprocess, str]:
    """Return the preprocessing that is assumed where nothing states one, and the sentence that says so."""
    channels = "GRAY" if spec.channels == 1 else "RGB"
    if takes_whole_numbers(spec):
        raw = PRESETS["raw"].replace(channels=channels)
        return raw, f"Preprocessing: {raw.summary(spec)}: nothing states it, and the input takes whole numbers."
    preset = "gray" if spec.channels == 1 else "imagenet"
    what = "grey values 0..1" if spec.channels == 1 else "ImageNet's mean and standard deviation"
    return PRESETS[preset], (
        f"Preprocessing: nothing states it, so {what} are assumed ({PRESETS[preset].geometry(spec)}). "
        "If the model wants another, state it with --preprocess (preprocess=), or in <model>.preprocess.json beside it."
    )


def takes_whole_numbers(spec: InputSpec) -> bool:
    """Tell whether an input takes pixels unchanged, since its dtype is an integer type that reaches 255."""
    return spec.dtype.kind in "iu" and np.iinfo(spec.dtype).max >= 255
