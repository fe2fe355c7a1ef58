"""This module reads the `config.json` that timm writes beside a model's weights, locally and on a hub.

The conventions are those of the library itself (https://github.com/huggingface/pytorch-image-models):
`timm/data/config.py` (`resolve_data_config`: what a missing value means), `timm/data/transforms_factory.py`
(`transforms_imagenet_eval`: resize, crop and borders), `timm/models/_hub.py` (`save_config_for_hf`, `_parse_model_cfg`:
where the values stand in a file, now and formerly), and `timm/data/dataset_info.py` (labels and their descriptions).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import LabelsError, PreprocessError
from onnx_xcam.images.fields import MOST_CHANNELS, check_fields
from onnx_xcam.images.presets import IMAGENET_MEAN, IMAGENET_STD
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import GROUPS, Statement

_CROP_MODE = {"center": "crop", "squash": "stretch", "border": "letterbox"}
_INTERPOLATION = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic", "lanczos": "lanczos"}
"""The filters of timm that exist here. Its box and Hamming are Pillow's, which no other filter gives; "random" is for
training."""
_DEFAULT_SIZE = 224
_MOST_LABELS = 1_000_000


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is timm's: it holds a `pretrained_cfg`, or is one, as timm wrote it at first."""
    data = file.data
    return isinstance(data, Mapping) and (isinstance(data.get("pretrained_cfg"), Mapping) or _is_config(data))


def _is_config(data: Mapping[str, Any]) -> bool:
    """Tell whether data are a `pretrained_cfg`, or what `resolve_data_config` returns of one."""
    own = {"crop_pct", "crop_mode"} & data.keys()
    common = {"input_size", "interpolation", "mean", "std"} & data.keys()
    return bool(own and common) or len(common) == 4


def read(file: DescriptionFile) -> Statement:
    """Return what a `config.json` of timm states: preprocessing and labels."""
    data: Mapping[str, Any] = file.data
    inner = data.get("pretrained_cfg")
    config, where = (inner, f"{file.source}: pretrained_cfg") if isinstance(inner, Mapping) else (data, file.source)
    labels = _labels(data, config, file.source)
    return Statement.of(file.source, settings(config, where), labels, at_sizes=at_sizes(config, where))


def settings(config: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of `Preprocess` that a `pretrained_cfg` means, in their final types.

    Values that it leaves out are those that timm takes then: 224x224, bicubic, ImageNet's mean and deviation, a centre
    crop of 0.875.

    Raises:
        PreprocessError: a value is impossible, or asks for what is not offered; the message names source and key.
    """
    channels, size = _input_size(config.get("input_size"), source)
    fields: dict[str, Any] = {"size": size, "scale": 1 / 255, "antialias": True}
    if channels in (1, 3):
        fields["channels"] = "GRAY" if channels == 1 else "RGB"
    for key, default in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
        fields[key] = _for_channels(check_fields({key: config.get(key) or default}, source)[key], channels)
    name = str(config.get("interpolation") or "bicubic")
    if name not in _INTERPOLATION:
        raise PreprocessError(f"{source}: interpolation is {name!r}{suggestion_of_few(name, _INTERPOLATION)}")
    fields["interpolation"] = _INTERPOLATION[name]
    return check_fields(fields | _geometry(config, size, fields["mean"], source), source)


def at_sizes(config: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    """Return the settings of size and geometry that hold for a model exported at the `test_input_size` of a config.

    They are those of `resolve_data_config(use_test_size=True)`: a missing `test_crop_pct` is the `crop_pct`.

    Raises:
        PreprocessError: a value is impossible; the message names source and key.
    """
    if config.get("test_input_size") is None:
        return []
    _input_size(config["test_input_size"], source, "test_input_size")
    part = config.get("test_crop_pct") or config.get("crop_pct")
    stated = settings({**config, "input_size": config["test_input_size"], "crop_pct": part}, source)
    if stated["size"] == settings(config, source)["size"]:
        return []
    return [{name: stated[name] for group in ("size", "geometry") for name in GROUPS[group] if name in stated}]


def _input_size(value: Any, source: str, key: str = "input_size") -> tuple[int, tuple[int, int]]:
    """Return the channels and (height, width) that an `input_size`, or the value of another key, states."""
    if value is None:
        return 3, (_DEFAULT_SIZE, _DEFAULT_SIZE)
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise PreprocessError(f"{source}: {key} is {value!r}; it must be [channels, height, width]")
    channels = value[0]
    if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= MOST_CHANNELS:
        raise PreprocessError(f"{source}: {key} is {value!r}; it must be [channels, height, width]")
    size: tuple[int, int] = check_fields({"size": list(value[1:])}, f"{source}: {key}")["size"]
    return channels, size


def _for_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return values for each channel; those of another number of channels are averaged, as timm's loaders do."""
    return values if len(values) in (1, channels) else (sum(values) / len(values),)


def _geometry(config: Mapping[str, Any], size: tuple[int, int], mean: tuple[float, ...], source: str) -> dict[str, Any]:
    """Return the settings of resize, crop and borders.

    The photo is scaled to floor(size / crop_pct). A centre crop of a square is torchvision's own, which rounds the
    longer side down; timm's own resizing, for oblong sizes and borders, rounds it. Borders have the mean colour. With a
    crop_pct above 1 the scaled photo is smaller than the input, and the borders are black.
    """
    mode = str(config.get("crop_mode") or "center")
    if mode not in _CROP_MODE:
        raise PreprocessError(f"{source}: crop_mode is {mode!r}{suggestion_of_few(mode, _CROP_MODE)}")
    stated = config.get("crop_pct") or 0.875
    if isinstance(stated, bool) or not isinstance(stated, (int, float)) or not 0.01 <= stated <= 100:
        raise PreprocessError(f"{source}: crop_pct is {stated!r}; it must be a number above 0, such as 0.875")
    scaled = (math.floor(size[0] / stated), math.floor(size[1] / stated))
    fields: dict[str, Any] = {"resize": _CROP_MODE[mode]}
    if stated <= 1:
        fields["crop_fraction"] = stated
    else:
        fields["resize_size"] = scaled
    if mode == "border":
        fields["pad_value"] = [min(255, max(0, round(255 * value))) for value in mean]
    if mode == "border" or (mode == "center" and scaled[0] != scaled[1]):
        fields["size_rounding"] = "round"
    return fields


def _labels(data: Mapping[str, Any], config: Mapping[str, Any], source: str) -> tuple[str, ...] | None:
    """Return the labels by class id: the description of each label's name where there is one, as timm shows them.

    `label_names` (formerly `labels`) is a list, or names by id; `label_descriptions` is by name. The outer values
    overrule those in the `pretrained_cfg`.
    """
    names = next((one[key] for one in (data, config) for key in ("label_names", "labels") if one.get(key)), None)
    if names is None:
        return None
    by_id = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
    if not isinstance(by_id, Mapping):
        raise LabelsError(f"{source}: label_names is {type(names).__name__}; it must be a list, or names by class id")
    found = {_class_id(key, source): name for key, name in by_id.items()}
    odd = next((name for name in found.values() if not isinstance(name, str)), None)
    if odd is not None:
        raise LabelsError(f"{source}: label_names holds {type(odd).__name__}; each name must be text")
    descriptions = data.get("label_descriptions") or config.get("label_descriptions")
    known = descriptions if isinstance(descriptions, Mapping) else {}
    names_in_order = (found.get(index, "") for index in range(max(found) + 1))
    return tuple(str(known.get(name) or name) for name in names_in_order)


def _class_id(key: Any, source: str) -> int:
    """Return the class id that a key states, as a number or in text."""
    text = str(key)
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < _MOST_LABELS):
        raise LabelsError(f"{source}: label_names has the key {text[:40]!r}; class ids are 0 to {_MOST_LABELS - 1}")
    return int(text)


DIALECT = Dialect("timm", ("config.json",), recognises, read)
