"""This module checks the settings of a preprocessing description, and holds the message for each wrong one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnx_xcam.common.arguments import short_repr
from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import PreprocessError

_CHOICES: Mapping[str, tuple[str, ...]] = {
    "resize": ("stretch", "crop", "letterbox"),
    "interpolation": ("nearest", "linear", "cubic", "area", "lanczos"),
    "channels": ("RGB", "BGR", "GRAY"),
    "layout": ("NCHW", "NHWC"),
    "size_rounding": ("floor", "round", "exact"),
    "offset_rounding": ("floor", "round"),
    "align": ("centre", "start"),
}
"""The settings that are one of a few texts."""
_ALIASES = {"bilinear": "linear", "bicubic": "cubic", "box": "area"}
"""Other names of interpolations."""
MOST_CHANNELS = 1024
"""The most channels that a picture may have; hyperspectral cameras give some hundred."""


def check_fields(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings with their final types.

    Raises:
        PreprocessError: a key is unknown or a value impossible; the message names key, value and source.
    """
    checked = {}
    for key, value in data.items():
        if key not in _CHECKS:
            raise PreprocessError(f"{source}: unknown setting {short_repr(key)}{suggestion_of_few(str(key), _CHECKS)}")
        try:
            checked[key] = _CHECKS[key](value)
        except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
            raise PreprocessError(f"{source}: {key} is {short_repr(value)}; {_WANTED[key]}") from error
    return checked


def number(value: Any) -> float:
    """Return a finite number, which may be a text and a fraction ("1/255"), as a float; else raise an error."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError
    if isinstance(value, str):
        above, slash, below = value.partition("/")
        value = float(above) / float(below) if slash else float(above)
    result = float(value)
    if not math.isfinite(result):
        raise ValueError
    return result


def _numbers(value: Any) -> tuple[float, ...]:
    """Return one number, or one for each channel, as a tuple."""
    values = (
        tuple(map(number, value)) if isinstance(value, Sequence) and not isinstance(value, str) else (number(value),)
    )
    if not 1 <= len(values) <= MOST_CHANNELS:
        raise ValueError
    return values


def _pad_value(value: Any) -> float | tuple[float, ...]:
    """Return one pixel value 0 to 255, or one for each channel."""
    values = _numbers(value)
    if not all(0 <= one <= 255 for one in values):
        raise ValueError
    whole = tuple(int(one) if one == int(one) else one for one in values)
    return whole[0] if len(whole) == 1 else whole


def _window(value: Any) -> tuple[float, float] | None:
    """Return (low, high) with low below high, or None."""
    if value is None:
        return None
    low, high = _numbers(value)
    if not low < high:
        raise ValueError
    return low, high


def _bands(value: Any) -> tuple[int, ...] | None:
    """Return numbers of channels, counted from 0, or None."""
    if value is None:
        return None
    values = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    bands = tuple(_whole(one, 0, MOST_CHANNELS - 1) for one in values)
    if not 1 <= len(bands) <= MOST_CHANNELS:
        raise ValueError
    return bands


def _shown_bands(value: Any) -> tuple[int, ...] | None:
    """Return the numbers of one or three channels, or None."""
    bands = _bands(value)
    if bands is not None and len(bands) not in (1, 3):
        raise ValueError
    return bands


def _above_zero(value: Any) -> float | None:
    """Return a number above 0, or None."""
    if value is None:
        return None
    result = number(value)
    if result <= 0:
        raise ValueError
    return result


def _nonzero(values: tuple[float, ...]) -> tuple[float, ...]:
    """Return the values if none of them is 0."""
    if 0.0 in values:
        raise ValueError
    return values


def _whole(value: Any, low: int, high: int) -> int:
    """Return a whole number from `low` to `high`, which may be a float such as 2.0, as an int."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value != int(value)
        or not low <= value <= high
    ):
        raise ValueError
    return int(value)


def _size(value: Any) -> tuple[int, int] | None:
    """Return (height, width) of a pair, of one number for a square, or of None, which leaves the size open."""
    if value is None:
        return None
    height, width = value if isinstance(value, Sequence) else (value, value)
    return _whole(height, 1, 2**20), _whole(width, 1, 2**20)


def _fraction(value: Any) -> float:
    """Return a number above 0 and at most 1."""
    result = number(value)
    if not 0.0 < result <= 1.0:
        raise ValueError
    return result


def _flag(value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise TypeError
    return value


def _choice(key: str, optional: bool = False) -> Callable[[Any], str | None]:
    """Return the check of a setting that is one of `_CHOICES`, in any case, or, if optional, None."""

    def check(value: Any) -> str | None:
        if value is None and optional:
            return None
        text = str(value).lower()
        text = _ALIASES.get(text, text)
        for choice in _CHOICES[key]:
            if choice.lower() == text:
                return choice
        raise ValueError

    return check


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "size": _size,
    "resize": _choice("resize"),
    "crop_fraction": _fraction,
    "interpolation": _choice("interpolation"),
    "antialias": _flag,
    "scale": lambda value: _nonzero((number(value),))[0],
    "mean": _numbers,
    "std": lambda value: _nonzero(_numbers(value)),
    "channels": _choice("channels"),
    "pad_value": _pad_value,
    "layout": _choice("layout", optional=True),
    "resize_size": _size,
    "crop_first": _flag,
    "size_rounding": _choice("size_rounding", optional=True),
    "offset_rounding": _choice("offset_rounding"),
    "align": _choice("align"),
    "white": _above_zero,
    "window": _window,
    "bands": _bands,
    "show_bands": _shown_bands,
}
"""The check of each setting: it returns the value in its final type, or raises an error."""

_WANTED: Mapping[str, str] = {
    "size": "it must be [height, width] or one positive whole number",
    "crop_fraction": "it must be a number above 0 and at most 1",
    "antialias": "it must be true or false",
    "scale": "it must be a number other than 0, such as 1 or 1/255",
    "mean": "it must be one number, or one for each channel in the order of channels",
    "std": "it must be one number, or one for each channel in the order of channels, none of them 0",
    "pad_value": "it must be a number 0 to 255, or one for each channel in the order of channels",
    "resize_size": "it must be [height, width] or one positive whole number",
    "crop_first": "it must be true or false",
    "white": "it must be a number above 0: the value in the file that stands for pixel 255",
    "window": "it must be [low, high], two values in the file of which the first is the smaller",
    "bands": "it must be a list of the file's channels, counted from 0",
    "show_bands": "it must be a list of one or three of the file's channels, counted from 0",
    **{key: f"it must be one of {', '.join(choices)}" for key, choices in _CHOICES.items()},
}
"""The part of a message that says what each setting must be."""
