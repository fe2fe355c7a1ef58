"""This module says in words what a group of settings means, and tells whether two groups mean the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx_xcam.images.preprocess import Preprocess, by

NAMES: Mapping[str, str] = {
    "size": "size",
    "geometry": "resize rule",
    "interpolation": "interpolation",
    "values": "values",
    "channels": "channel order",
    "layout": "layout",
    "labels": "labels",
}
"""What messages call each group of settings, and the labels."""

_PHOTOS = ((480, 640), (640, 480), (333, 333))
"""The (height, width) of photos on which two resize rules are compared."""
_SAME_PIXELS = 1
"""Resize rules that place the input within so many of its own pixels of each other differ by rounding only."""
_SAME_VALUES = 0.02
"""Values that differ by less than this part of their range count as the same, such as a mean of 0.45 and 0.449."""


def told(group: str, preprocess: Preprocess, count: int) -> str:
    """Return what the settings of a group mean, in a few words: "centre crop 0.875", "-1..1".

    Args:
        group: one of `GROUPS`.
        preprocess: the settings.
        count: the number of the model's channels. Grey and colours have a name for their order; others are in the
            file's.
    """
    if group == "channels" and count not in (1, 3) and preprocess.bands is None:
        return "as in the file"
    return _TOLD[group](preprocess)


def means_the_same(group: str, one: Preprocess, other: Preprocess, size: tuple[int, int]) -> bool:
    """Tell whether the settings of a group have the same effect for an input of (height, width)."""
    if group == "geometry":
        return all(_placed_alike(one, other, photo, size) for photo in _PHOTOS)
    if group == "values":
        return one.window == other.window and one.white == other.white and _valued_alike(one, other)
    return _TOLD[group](one) == _TOLD[group](other)


def _interpolation(preprocess: Preprocess) -> str:
    """Return the interpolation in words."""
    return preprocess.interpolation + ("" if preprocess.antialias else " without antialiasing")


_TOLD: Mapping[str, Callable[[Preprocess], str]] = {
    "size": lambda preprocess: "open" if preprocess.size is None else by(preprocess.size),
    "geometry": Preprocess.rule,
    "interpolation": _interpolation,
    "values": Preprocess.values,
    "channels": Preprocess.order,
    "layout": lambda preprocess: preprocess.layout or "open",
}


def _placed_alike(one: Preprocess, other: Preprocess, photo: tuple[int, int], size: tuple[int, int]) -> bool:
    """Tell whether both lay a photo into the input in the same place, and pad it with the same value if they do."""
    first, second = (preprocess.placement(photo, size).box for preprocess in (one, other))
    height, width = first[2] - first[0], first[3] - first[1]
    pixel = max(height / size[0], width / size[1])
    if any(abs(a - b) > _SAME_PIXELS * pixel + 1e-6 for a, b in zip(first, second, strict=True)):
        return False
    padded = min(first[:2]) < -pixel or first[2] > photo[0] + pixel or first[3] > photo[1] + pixel
    return not padded or one.pad_value == other.pad_value


def _valued_alike(one: Preprocess, other: Preprocess) -> bool:
    """Tell whether black and white become nearly the same values in each channel."""
    count = max(len(one.mean), len(one.std), len(other.mean), len(other.std))
    for channel in range(count):
        (low, high), (other_low, other_high) = (_ends(preprocess, channel) for preprocess in (one, other))
        range_ = max(abs(high - low), abs(other_high - other_low))
        if max(abs(low - other_low), abs(high - other_high)) > _SAME_VALUES * range_:
            return False
    return True


def _ends(preprocess: Preprocess, channel: int) -> tuple[float, float]:
    """Return what black and white become in a channel."""
    mean, std = (values[channel % len(values)] for values in (preprocess.mean, preprocess.std))
    return -mean / std, (255 * preprocess.scale - mean) / std
