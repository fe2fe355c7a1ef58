"""This module says what is assumed of a model's pictures where nothing states it."""

from __future__ import annotations

from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.producers.likelihood import ASSUMED, Likelihood, likelihood

_SQUARE = 1.15
"""An input whose longer side is at most so many times the shorter one gets a centre crop; others the whole photo."""


def assumed(spec: InputSpec, size: tuple[int, int], *, whole: bool = False) -> Preprocess:
    """Return the preprocessing that is assumed of an input that is prepared at (height, width).

    An input of whole numbers of 8 bits that reach 255 gets pixels as they are, one of more bits the values of the file,
    one of three channels ImageNet's mean and standard deviation, and one of grey or of other bands values 0..1. A
    centre crop is made for nearly square inputs alone: what takes clearly oblong pictures (text lines, people) is
    trained on the whole of them.

    Args:
        spec: the input.
        size: height and width of a prepared picture.
        whole: whether the model looks at the whole picture, as detectors do; then it gets the whole of it in its own
            proportions (a letterbox) with values 0..1, as most detectors that are deployed as ONNX files do.
    """
    if takes_whole_numbers(spec):
        return PRESETS["raw"] if spec.dtype.itemsize == 1 else PRESETS["raw"].replace(white=255.0)
    if spec.channels != 3:
        return PRESETS["gray" if spec.channels == 1 else "unit"]
    if whole:
        return PRESETS["yolo"]
    if max(size) > _SQUARE * min(size):
        return PRESETS["imagenet"].replace(resize="stretch", crop_fraction=1.0)
    return PRESETS["imagenet"]


def takes_whole(task: str) -> bool:
    """Tell whether models of a task look at the whole picture, of which no part may be cropped away."""
    return task != "classification"


def takes_whole_numbers(spec: InputSpec) -> bool:
    """Tell whether an input takes pixels unchanged, since its dtype is an integer type that reaches 255."""
    return spec.dtype.kind == "u" or (spec.dtype.kind == "i" and spec.dtype.itemsize > 1)


def how_likely(spec: InputSpec, size: tuple[int, int], *, whole: bool = False) -> Likelihood | None:
    """Return how likely `assumed` is right, or None where nobody has published weights for such an input."""
    known = spec.channels == len(ASSUMED.mean) and assumed(spec, size, whole=whole) == ASSUMED
    return likelihood(*size) if known else None
