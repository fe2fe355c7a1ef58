"""This module says how likely the assumed preprocessing of a photo classifier is right.

The counts are those of the classification weights that timm and torchvision publish, by the size of their input. They
are made by `tools/release/named_presets.py`. What nobody published a weight for has no likelihood.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.images.presets import PRESETS
from onnx_xcam.producers.named import FOLDER
from onnx_xcam.text import load_json

ASSUMED = PRESETS["imagenet"]
"""The preprocessing that is assumed of an input of three channels of which nothing is known."""
COLUMNS = ("weights", "whole", "values", "crop", "interpolation")
"""What is counted of each size: the weights, and those that agree with the assumption as a whole and in each part."""


@dataclass(frozen=True)
class Likelihood:
    """A Likelihood says for how many published weights of an input size the assumption is right.

    Attributes:
        sources: the libraries that publish them, with their versions: "timm 1.0.31".
        weights: how many classification weights of that size are published; at least 1.
        whole: how many of them agree in values, crop and interpolation.
        values: how many agree in scale, mean, standard deviation and order of channels.
        crop: how many agree in which part of the photo becomes the input.
        interpolation: how many agree in the interpolation.
    """

    sources: tuple[str, ...]
    weights: int
    whole: int
    values: int
    crop: int
    interpolation: int

    def share(self, part: str = "whole") -> float:
        """Return the share, 0 to 1, of the weights that agree in a part: one of `COLUMNS` behind the first."""
        return float(getattr(self, part) / self.weights)


def likelihood(height: int, width: int) -> Likelihood | None:
    """Return how likely the assumption is right for an input of a size, or None where no such weights are published."""
    data = _data()
    row = data["sizes"].get(f"{height}x{width}")
    return None if row is None else Likelihood(tuple(data["sources"]), *row)


def likelihood_of_all() -> Likelihood:
    """Return how likely the assumption is right over all published weights, whatever the size of their input."""
    data = _data()
    return Likelihood(tuple(data["sources"]), *map(sum, zip(*data["sizes"].values(), strict=True)))


def agreement(preprocess: Preprocess, photos: Iterable[tuple[int, int]]) -> tuple[bool, bool, bool]:
    """Tell whether a preprocessing agrees with the assumption in values, in crop and in interpolation.

    Args:
        preprocess: the preprocessing of a weight; it states a size.
        photos: the (height, width) of photos, all of which must be placed alike for the crops to agree.
    """
    assert preprocess.size is not None
    size = preprocess.size
    values = ("scale", "channels")
    return (
        all(getattr(preprocess, name) == getattr(ASSUMED, name) for name in values)
        and _spread(preprocess.mean) == _spread(ASSUMED.mean)
        and _spread(preprocess.std) == _spread(ASSUMED.std),
        all(preprocess.placement(photo, size) == ASSUMED.placement(photo, size) for photo in photos),
        (preprocess.interpolation, preprocess.antialias) == (ASSUMED.interpolation, ASSUMED.antialias),
    )


def _spread(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return one value for each of three channels."""
    return values * 3 if len(values) == 1 else values


@functools.cache
def _data() -> Mapping[str, Any]:
    """Return the table of counts."""
    data: Mapping[str, Any] = load_json((FOLDER / "likelihood.json").read_text(encoding="utf-8"))
    return data
