"""This module reads the `config.json` that timm writes beside a model's weights on a hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.suggestions import suggestion_of_few
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import Statement

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CROP_MODE = {"center": "crop", "squash": "stretch", "border": "letterbox"}


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is timm's: it holds a `pretrained_cfg`, or is one."""
    return isinstance(file.data, Mapping) and (
        isinstance(file.data.get("pretrained_cfg"), Mapping) or _is_config(file.data)
    )


def _is_config(data: Mapping[str, Any]) -> bool:
    """Tell whether data are a `pretrained_cfg`."""
    return "input_size" in data or {"crop_pct", "mean"} <= data.keys()


def read(file: DescriptionFile) -> Statement:
    """Return what a `config.json` of timm states: mean and std are for pixels in 0..1."""
    inner = file.data.get("pretrained_cfg")
    if isinstance(inner, Mapping):
        return Statement.of(file.source, _settings(inner, f"{file.source}: pretrained_cfg"))
    return Statement.of(file.source, _settings(file.data, file.source))


def _settings(data: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings that a data config of timm states."""
    fields: dict[str, Any] = {"scale": 1 / 255, "mean": _IMAGENET_MEAN, "std": _IMAGENET_STD}
    size = data.get("input_size")
    if size is not None:
        if not isinstance(size, (list, tuple)) or len(size) != 3:
            raise PreprocessError(f"{source}: input_size is {size!r}; it must be [channels, height, width]")
        fields["size"] = size[1:]
        fields["channels"] = "GRAY" if size[0] == 1 else "RGB"
    mode = str(data.get("crop_mode") or "center")
    if mode not in _CROP_MODE:
        raise PreprocessError(f"{source}: crop_mode is {mode!r}{suggestion_of_few(mode, _CROP_MODE)}")
    fields["resize"] = _CROP_MODE[mode]
    names = {"mean": "mean", "std": "std", "interpolation": "interpolation", "crop_pct": "crop_fraction"}
    fields |= {ours: data[theirs] for theirs, ours in names.items() if data.get(theirs) is not None}
    return check_fields(fields, source)


DIALECT = Dialect("timm", ("config.json",), recognises, read)
