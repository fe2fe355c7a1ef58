"""This module reads the `preprocessor_config.json` that Hugging Face's transformers write beside a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields, number
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import Statement

_PILLOW_RESAMPLE = ("nearest", "lanczos", "linear", "cubic")  # by Pillow's number; its box and Hamming are not offered
_HARMLESS_STEPS = {"do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_flip_channel_order"} | {
    "do_convert_rgb",
    "do_reduce_labels",
}
"""The steps of a Hugging Face file that are followed here, or do not change a picture."""


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the configuration of a Hugging Face image processor."""
    data = file.data
    return isinstance(data, Mapping) and (
        any(str(key).startswith("do_") for key in data) or bool({"image_mean", "image_processor_type"} & data.keys())
    )


def read(file: DescriptionFile) -> Statement:
    """Return what the configuration of an image processor states."""
    return Statement.of(file.source, _settings(file.data, file.source))


def _settings(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings that a `preprocessor_config.json` states.

    Its steps are resize, centre crop, rescale and normalise, each switched by `do_...`.
    """
    for key, value in data.items():
        if key.startswith("do_") and value and key not in _HARMLESS_STEPS:
            raise PreprocessError(
                f"{source}: the step {key} is not supported; state the settings in a file of your own"
            )
    if not data.get("do_resize", True):
        raise PreprocessError(
            f"{source}: do_resize is false, but a model input needs a size; state the settings yourself"
        )
    fields = _geometry(data, source) | _values(data, source)
    resample = data.get("resample")
    if resample is not None:
        if resample not in range(len(_PILLOW_RESAMPLE)):
            raise PreprocessError(f"{source}: resample is {resample!r}; Pillow's filters 0 to 3 are supported")
        fields["interpolation"] = _PILLOW_RESAMPLE[resample]
    return fields


def _geometry(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of size, resize and crop that a `preprocessor_config.json` states."""
    size, crop = data.get("size"), data.get("crop_size")
    cropped = bool(data.get("do_center_crop", False))
    if size is None:
        return {}
    if isinstance(size, Mapping) and set(size) == {"shortest_edge"}:
        size, rule = size["shortest_edge"], "crop"
    elif isinstance(size, Mapping) and set(size) == {"height", "width"}:
        size, rule = [size["height"], size["width"]], "stretch"
    elif isinstance(size, int):
        rule = "crop" if cropped else "stretch"  # the files of before 2023 state one number
    else:
        raise PreprocessError(f"{source}: size is {size!r}; supported are shortest_edge alone, or height and width")
    if rule == "crop" and data.get("crop_pct") is not None:  # ConvNeXT: enlarged by 1/crop_pct and cropped below 384
        side, _ = check_fields({"size": size}, source)["size"]
        if side < 384:
            return {"size": side, "resize": "crop", "crop_fraction": data["crop_pct"]}
        return {"size": side, "resize": "stretch"}
    if not cropped:
        if rule == "crop":
            raise PreprocessError(
                f"{source}: size is a shortest_edge without do_center_crop: the input has no fixed size"
            )
        return {"size": size, "resize": rule}
    if isinstance(crop, Mapping):
        crop = [crop.get("height"), crop.get("width")]
    crop = size if crop is None else crop
    try:
        inner, outer = (tuple(pair) if isinstance(pair, list) else (pair, pair) for pair in (crop, size))
        fractions = [number(i) / number(o) for i, o in zip(inner, outer, strict=True)]
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise PreprocessError(f"{source}: crop_size is {crop!r} and size is {size!r}; both must be numbers") from error
    # For a shortest edge and an oblong crop the shorter photo side is not known here; the larger fraction keeps most.
    return {"size": list(inner), "resize": rule, "crop_fraction": max(fractions)}


def _values(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of scale, mean, std and channels that a `preprocessor_config.json` states.

    It means x = pixel * rescale_factor, then (x - image_mean) / image_std.
    """
    fields: dict[str, Any] = {"channels": "BGR" if data.get("do_flip_channel_order") else "RGB"}
    if data.get("do_rescale", True):
        fields["scale"] = data.get("rescale_factor") or 1 / 255
    checked = check_fields({"mean": data.get("image_mean") or 0.0, "std": data.get("image_std") or 1.0}, source)
    mean, std = checked["mean"], checked["std"]
    normalised = bool(data.get("do_normalize", data.get("image_mean") is not None))
    if not normalised:
        mean, std = (0.0,), (1.0,)
    if data.get("rescale_offset"):  # EfficientNet: 1 is subtracted after rescaling
        mean = tuple(m + 1.0 for m in mean)
    if data.get("include_top") and normalised:  # EfficientNet: divided by image_std a second time
        std = tuple(s * s for s in std)
    return fields | {"mean": mean, "std": std}


DIALECT = Dialect("Hugging Face", ("preprocessor_config.json",), recognises, read)
