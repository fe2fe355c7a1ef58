"""This module reads the image entries of a model's metadata that the ONNX standard defines.

They are `Image.BitmapPixelFormat`, `Image.NominalPixelRange` and `Image.ColorSpaceGamma`, keys and values in any case
(https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md). They describe what the model's input holds, before any
scaling in the graph. WinML Tools, Core ML's converters and Azure Custom Vision write them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.producers.statement import METADATA, Statement

_PIXEL_FORMATS: Mapping[str, dict[str, Any]] = {
    "gray8": {"channels": "GRAY"},
    "rgb8": {"channels": "RGB"},
    "bgr8": {"channels": "BGR"},
    "rgba8": {"channels": "RGB", "bands": (0, 1, 2, 3)},
    "bgra8": {"channels": "RGB", "bands": (2, 1, 0, 3)},
}
_RANGES: Mapping[str, dict[str, Any]] = {
    "nominalrange_0_255": {"scale": 1.0},
    "normalized_0_1": {"scale": 1 / 255},
    "normalized_1_1": {"scale": 1 / 255, "mean": 0.5, "std": 0.5},
    "nominalrange_16_235": {"scale": (235 - 16) / 255, "mean": -16},
}
_GAMMAS: Mapping[str, dict[str, Any]] = {"srgb": {}, "linear": {}}
_ENTRIES = {
    "Image.BitmapPixelFormat": _PIXEL_FORMATS,
    "Image.NominalPixelRange": _RANGES,
    "Image.ColorSpaceGamma": _GAMMAS,
}
"""The entries, with the settings that each of their values states; the values in lower case."""


def metadata(props: Mapping[str, str]) -> Statement | None:
    """Return what the image entries of a model's metadata state, or None where there are none."""
    return statement({key: props[key] for key in props if key.lower().startswith("image.")}, METADATA)


def statement(entries: Mapping[str, Any], source: str) -> Statement | None:
    """Return what image entries state, wherever they stand, or None where there are none.

    An unknown value is not followed; a remark says so.

    Args:
        entries: the entries by key; keys of others are passed over.
        source: what messages call the place.
    """
    folded = {str(key).lower(): value for key, value in entries.items()}
    settings: dict[str, Any] = {}
    remarks = []
    known = False
    for key, meanings in _ENTRIES.items():
        value = folded.get(key.lower())
        if value is None:
            continue
        known = True
        meaning = meanings.get(str(value).lower())
        if meaning is None:
            near = suggestion_of_few(str(value), meanings)
            remarks.append(f"{source}: {key} is {value!r}, which is not followed{near}".removesuffix("?") + ".")
        else:
            settings |= meaning
    if str(folded.get("image.colorspacegamma", "")).lower() == "linear":
        remarks.append(f"{source}: Image.ColorSpaceGamma is Linear, but pictures are handed on with the gamma of sRGB.")
    return Statement.of(source, settings, remarks=remarks) if known else None
