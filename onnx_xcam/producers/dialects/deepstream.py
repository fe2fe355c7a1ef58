"""This module reads the configuration of NVIDIA DeepStream's plugin Gst-nvinfer, `config_infer_primary.txt`.

The keys are those of https://docs.nvidia.com/metropolis/deepstream/dev-guide/text/DS_plugin_gst-nvinfer.html:
y = net-scale-factor * (x - offsets), the photo stretched, or fitted with black borders to the right and below, or on
all sides. The plugin scales on the GPU, so the pixels of a resized photo differ slightly.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import number
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.label_file import labels_or_remark
from onnx_xcam.producers.statement import Statement

_FILES = tuple(
    f"{name}.txt"
    for name in (
        *("config_infer_{stem}", "config_infer_primary_{stem}", "{stem}_config"),
        *("config_infer_primary", "config_infer", "pgie_config", "nvinfer_config"),
    )
)
_TELLING = {"net-scale-factor", "onnx-file", "model-engine-file", "labelfile-path", "model-color-format", "infer-dims"}
_COLOURS = {"0": "RGB", "1": "BGR", "2": "GRAY"}


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file has keys of the plugin, in a group [property] or, as TAO exports them, in no group."""
    return bool(_TELLING & _properties(file).keys())


def read(file: DescriptionFile) -> Statement:
    """Return what the group [property] states."""
    keys = _properties(file)
    if "mean-file" in keys:
        raise PreprocessError(f"{file.source}: mean-file is not supported; state the mean colour as offsets")
    colour = keys.get("model-color-format", "0")
    if colour not in _COLOURS:
        raise PreprocessError(
            f"{file.source}: model-color-format is {colour!r}; 0 (RGB), 1 (BGR) and 2 (GRAY) are known"
        )
    scale, *_ = _numbers(file, keys, "net-scale-factor", "1")
    offsets = _numbers(file, keys, "offsets", "0")
    settings: dict[str, Any] = {
        **_geometry(keys),
        **{"channels": _COLOURS[colour], "scale": scale, "mean": [scale * offset for offset in offsets]},
    }
    dims = _numbers(file, keys, "infer-dims", "0")
    if len(dims) == 3:  # channels, height, width
        settings["size"] = dims[1:] if keys.get("network-input-order", "0") == "0" else dims[:2]
    labels, remarks = labels_or_remark(file, "labelfile-path", keys.get("labelfile-path"))
    if labels is not None and len(labels) == 1:  # a classifier's labels stand in one line
        labels = [label.strip() for label in labels[0].strip(";").split(";")]
    return Statement.of(file.source, settings, labels, label_remarks=remarks)


def _properties(file: DescriptionFile) -> dict[str, str]:
    """Return the keys of the group [property], or of a file without groups, as NVIDIA TAO exports it.

    TAO's exporter is `nvidia_tao_tf1/cv/common/types/base_ds_config.py` (github.com/NVIDIA/tao_tensorflow1_backend).
    """
    keys: dict[str, str] = {}
    lines = [line.strip() for line in file.text.splitlines()]
    group = "" if any(line.startswith("[") for line in lines) else "property"
    for line in lines:
        if line.startswith("["):
            group = line.strip("[]")
        elif group == "property" and "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            keys.setdefault(key.strip(), value.strip())
    return keys


def _numbers(file: DescriptionFile, keys: Mapping[str, str], key: str, default: str) -> list[float]:
    """Return the numbers of a key, which stand between semicolons, or raise a PreprocessError."""
    text = keys.get(key, default)
    try:
        return [number(part) for part in text.strip(";").split(";")]
    except (ValueError, ZeroDivisionError) as error:
        raise PreprocessError(f"{file.source}: {key} is {text[:200]!r}; it must hold numbers") from error


def _geometry(keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings of resizing."""
    settings: dict[str, Any] = {"resize": "stretch", "interpolation": "linear", "antialias": False}
    if keys.get("maintain-aspect-ratio") == "1":
        align = "centre" if keys.get("symmetric-padding") == "1" else "start"
        settings |= {"resize": "letterbox", "align": align}
    return settings


DIALECT = Dialect("NVIDIA DeepStream", _FILES, recognises, read)
