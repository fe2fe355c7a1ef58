"""Where a model's preprocessing comes from: it is stated, found beside the model, or assumed aloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from onnx_xcam.images.preprocess import InputSpec, Preprocess
from onnx_xcam.images.presets import PRESETS, find_sidecar, load_preprocess
from onnx_xcam.metadata import read_hints

PreprocessLike = str | Path | Mapping[str, Any] | Preprocess


def stated_preprocess(
    preprocess: PreprocessLike | None, metadata: Mapping[str, str], path: Path | None
) -> tuple[Preprocess | None, str]:
    """The preprocessing that something states (the argument, metadata, a file beside the model), and what that is."""
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
    """The preprocessing for a model of which nothing tells it, and the sentence that says so."""
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
    """Whether an input takes pixels as they are: whole numbers that reach 255."""
    return spec.dtype.kind in "iu" and np.iinfo(spec.dtype).max >= 255
