"""This module says what the image processors of transformers make of pixel values: rescale, then normalise.

The base pipeline is x = pixel * rescale_factor, then (x - image_mean) / image_std, each where it is switched on
(`TorchvisionBackend.rescale_and_normalize`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.producers.dialects.hugging_face.stated import Stated

_FILTERS: Mapping[Any, str] = {0: "nearest", 1: "lanczos", 2: "linear", 3: "cubic"} | {
    "nearest": "nearest",
    "lanczos": "lanczos",
    "bilinear": "linear",
    "bicubic": "cubic",
}
"""Our names of the filters, by Pillow's number or name; its box and Hamming filters are not offered."""


def values(stated: Stated, *, flipped: bool = False) -> dict[str, Any]:
    """Return the settings of scale, mean and std.

    One class does more, EfficientNetImageProcessor: with `rescale_offset`, 1 is subtracted after rescaling; with
    `include_top`, the result is divided by image_std once more.

    Args:
        stated: what the file states.
        flipped: the channels are turned round after normalisation, so that mean and std stand in the order before.
    """
    rescaled = stated.flag("do_rescale")
    fields: dict[str, Any] = {"scale": stated.real("rescale_factor") if rescaled else 1.0}
    mean, std = _normalisation(stated)
    if rescaled and stated.flag("rescale_offset"):
        mean = tuple(m + 1.0 for m in mean)
    if stated.flag("include_top"):
        again = stated.per_channel("image_std")
        count = max(len(std), len(again))
        std = tuple(a * b for a, b in zip(_repeated(std, count), _repeated(again, count), strict=True))
    if 0.0 in std:
        raise stated.wrong("image_std", "none of its numbers may be 0")
    return fields | {"mean": mean[::-1], "std": std[::-1]} if flipped else fields | {"mean": mean, "std": std}


def value_of_zero(stated: Stated) -> tuple[float, ...]:
    """Return the pixel value 0..255 that becomes 0, channel by channel: what borders of 0 after normalisation are."""
    fields = values(stated)
    zero = tuple(m / fields["scale"] for m in fields["mean"])
    if not all(0 <= value <= 255 for value in zero):
        raise stated.not_followed("do_pad adds borders of 0 after normalisation, a value that no pixel has")
    return zero


def interpolation(stated: Stated, *, antialias: bool) -> dict[str, Any]:
    """Return the settings of interpolation; without `resample`, transformers take the linear filter.

    The nearest pixel is the one under the centre, with or without smoothing: Pillow's rule, not OpenCV's.
    """
    resample = stated.get("resample")
    if resample is None:
        resample = 2
    key = resample.lower() if isinstance(resample, str) else resample
    if isinstance(key, (bool, float, list, dict)) or key not in _FILTERS:
        raise stated.wrong("resample", "Pillow's filters 0 to 3 (nearest, lanczos, bilinear, bicubic) are supported")
    name = _FILTERS[key]
    return {"interpolation": name, "antialias": antialias or name == "nearest"}


def _normalisation(stated: Stated) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return (mean, std) of the values after rescaling."""
    if not stated.flag("do_normalize"):
        return (0.0,), (1.0,)
    return stated.per_channel("image_mean"), stated.per_channel("image_std")


def _repeated(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Return one number for each of `count` channels."""
    return values * count if len(values) == 1 else values
