"""This module reads the entries `model_info ...` of a model's metadata, as OpenVINO's Model API knows them.

OpenVINO Training Extensions (OTX) and Geti write them into ONNX files. What they mean was taken from Model API's own
ONNX Runtime adapter (https://github.com/open-edge-platform/model_api: `adapters/utils.py`, `models/parameters.py`):
the photo is resized by OpenCV, its intensity scaled where `intensity_mode` says so, and each channel becomes
(value - mean_values) / scale_values.

`reverse_input_channels` tells in which order the caller's picture comes: True for one in BGR, as OpenCV reads it, False
for one in RGB, as OTX and Geti hand it in. The model itself gets RGB either way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import number
from onnx_xcam.producers.statement import METADATA, Statement

_PREFIX = "model_info "
_RESIZE: Mapping[str, dict[str, Any]] = {
    "standard": {"resize": "stretch"},
    "fit_to_window": {"resize": "letterbox", "align": "start", "size_rounding": "exact", "pad_value": 0},
    "fit_to_window_letterbox": {"resize": "letterbox"},
    "crop": {"resize": "crop", "crop_first": True, "offset_rounding": "floor"},
}
_TELLING = ("resize_type", "mean_values", "scale_values", "reverse_input_channels", "pad_value")
"""Where one of these keys is, the file says how its pictures are prepared, by the defaults for all others."""
_LONGEST = 200
_FULL = {"u8": 255.0, "u16": 65535.0, "i16": 32767.0, "f32": 1.0}
"""What `intensity_mode: scale_to_unit` divides by for each `input_dtype`, where nothing else is stated."""


def metadata(props: Mapping[str, str]) -> Statement | None:
    """Return what the entries of Model API state, or None where there are none.

    Raises:
        PreprocessError: an entry is impossible, or asks for something that depends on each picture.
    """
    info = {key.removeprefix(_PREFIX).strip(): props[key].strip() for key in props if key.startswith(_PREFIX)}
    info = {key: value for key, value in info.items() if value not in ("", "None")}
    labels = info.get("labels", "").split() or None
    if not set(_TELLING) & set(info):
        return Statement.of(METADATA, labels=labels) if labels else None
    embedded = info.get("embedded_processing") in ("True", "YES")  # the graph takes pixels and does the rest itself
    settings = {"channels": "RGB", **({"scale": 1.0} if embedded else {**_geometry(info), **_values(info)})}
    return Statement.of(METADATA, settings, labels)


def _said(key: str, value: str) -> str:
    """Return the beginning of a message on an entry."""
    return f"{METADATA}: {_PREFIX}{key} is {value[:_LONGEST]!r}"


def _geometry(info: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of resizing."""
    rule = info.get("resize_type", "standard")
    if rule not in _RESIZE:
        raise PreprocessError(f"{_said('resize_type', rule)}{suggestion_of_few(rule, _RESIZE)}")
    settings = {"interpolation": "linear", "antialias": False, **_RESIZE[rule]}
    if rule != "crop":  # which is always linear
        settings["interpolation"] = info.get("interpolation_mode", "LINEAR").lower()
    if rule == "fit_to_window_letterbox":
        settings["pad_value"] = _number(info, "pad_value", 0.0)
    return settings


def _values(info: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of values: those of `mean_values` and `scale_values`, after those of the intensity."""
    settings = _intensity(info)
    for key, ours in (("mean_values", "mean"), ("scale_values", "std")):
        if key in info:
            settings[ours] = _numbers(key, info[key])
    return settings


def _intensity(info: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of the intensity: what stands for 1, or the window that becomes 0 to 1."""
    mode, dtype = info.get("intensity_mode", "none"), info.get("input_dtype", "u8")
    if dtype not in _FULL:
        raise PreprocessError(f"{_said('input_dtype', dtype)}{suggestion_of_few(dtype, _FULL)}")
    if mode == "none":
        return {"scale": 1.0} if dtype == "u8" else {"white": 255}
    if mode == "scale_to_unit":
        return {"scale": 1 / 255, "white": _number(info, "intensity_max_value", _FULL[dtype])}
    if mode == "window":
        centre, width = _number(info, "intensity_window_center"), _number(info, "intensity_window_width")
        return {"scale": 1 / 255, "window": (centre - width / 2, centre + width / 2)}
    if mode == "range_scale" and "intensity_max_value" in info:
        factor, low = _number(info, "intensity_scale_factor", 1.0), _number(info, "intensity_min_value", 0.0)
        if factor > 0:
            return {"scale": 1 / 255, "window": (low / factor, _number(info, "intensity_max_value") / factor)}
    raise PreprocessError(
        f"{_said('intensity_mode', mode)}, which is not supported; state the settings in a file of your own"
    )


def _number(info: Mapping[str, str], key: str, default: float | None = None) -> float:
    """Return the number of an entry, or raise a PreprocessError if it is none."""
    if key not in info and default is not None:
        return default
    try:
        return number(info.get(key, ""))
    except (ValueError, ZeroDivisionError) as error:
        raise PreprocessError(f"{_said(key, info.get(key, ''))}; it must be a number") from error


def _numbers(key: str, text: str) -> list[float]:
    """Return the numbers of an entry that holds one for each channel, or raise a PreprocessError."""
    try:
        return [number(part) for part in text.split()]
    except (ValueError, ZeroDivisionError) as error:
        raise PreprocessError(f"{_said(key, text)}; it must hold numbers") from error
