"""This module reads the folder in which Azure Custom Vision exports a model.

`cvexport.manifest` names the other files; `metadata_properties.json` holds the entries `CustomVision.Preprocess...` and
the image entries of the ONNX standard. What a picture becomes was taken from Microsoft's own samples
(https://github.com/Azure-Samples/customvision-export-samples, samples/python: onnx, tensorflow, openvino):

- The photo is stretched by Pillow's `resize`, which is cubic, unless the file states a centre crop.
- An ONNX export states channels and range in its own metadata; for one without, those of the file hold.
- A TensorFlow export takes BGR in 0..255: it scales by itself, and the file describes what is behind that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.descriptions import check_found
from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.fields import check_fields
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects import onnx_image
from onnx_xcam.producers.dialects.label_file import labels_or_remark
from onnx_xcam.producers.statement import Statement
from onnx_xcam.text import load_json

_MANIFEST, _PROPERTIES = "cvexport.manifest", "metadata_properties.json"
_PREFIX = "CustomVision.Preprocess."
_SCALING_ITSELF = ("tensorflow", "tensorflowlite")
"""The platforms of exports that take pixels as they are."""
_LONGEST_NUMBER = 6


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is a manifest or the properties of a Custom Vision export."""
    data = _manifest(file) if file.path.name == _MANIFEST else file.data
    if not isinstance(data, Mapping):
        return False
    return {"DomainType", "Platform"} <= data.keys() or any(str(key).startswith("CustomVision.") for key in data)


def read(file: DescriptionFile) -> Statement:
    """Return what the files of an export state of pictures, whichever of the two is named, and a manifest's labels."""
    if file.path.name == _MANIFEST:
        manifest, properties = _manifest(file), _beside(file, _PROPERTIES) or {}
        labels, label_remarks = labels_or_remark(file, "LabelFileName", manifest.get("LabelFileName"))
    else:
        manifest, properties = _beside(file, _MANIFEST) or {}, file.data
        labels, label_remarks = None, ()  # which the manifest names
    settings: dict[str, Any] = {}
    remarks: tuple[str, ...] = ()
    stated = onnx_image.statement(properties, file.source)
    if str(manifest.get("Platform", "")).casefold() in _SCALING_ITSELF:
        settings = {"channels": "BGR", "scale": 1.0}
    elif stated is not None:
        settings, remarks = dict(stated.settings), stated.remarks
        settings |= _normalised(properties, settings, file.source)
    return Statement.of(file.source, settings | _geometry(properties), labels, remarks, label_remarks)


def _manifest(file: DescriptionFile) -> Mapping[str, Any]:
    """Return the content of a manifest, which is JSON; {} if it is none."""
    try:
        data = load_json(file.text)
    except ValueError:
        return {}
    return data if isinstance(data, Mapping) else {}


def _beside(file: DescriptionFile, name: str) -> Mapping[str, Any] | None:
    """Return the content of the other file of an export, or None if there is none."""
    try:
        path = file.path.with_name(name)
        check_found(path)
        other = DescriptionFile.read(path, name)
    except (OSError, ValueError):
        return None
    data = _manifest(other)
    return data or None


def _geometry(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of resizing: a centre crop where the file states one, else the samples' stretching."""
    target, crop = (
        tuple(_whole(properties.get(f"{_PREFIX}{what}{side}")) for side in ("Height", "Width"))
        for what in ("Target", "Crop")
    )
    if all(target) and all(crop) and "center" in str(properties.get(f"{_PREFIX}CropMethod", "")).casefold():
        return {"resize": "crop", "resize_size": target, "size": crop, "interpolation": "cubic"}
    return {"resize": "stretch", "interpolation": "cubic"}


def _whole(value: Any) -> int:
    """Return a whole number that stands in text; 0 for anything else."""
    text = str(value)
    return int(text) if text.isdecimal() and len(text) <= _LONGEST_NUMBER else 0


def _normalised(properties: Mapping[str, Any], settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the settings of `NormalizeMean` and `NormalizeStd`, {} where they change nothing.

    Numbers of which one is above 1 are for pixels 0 to 255, others for values in the stated range.
    """
    stated: dict[str, Any] = {}
    for key, ours in (("NormalizeMean", "mean"), ("NormalizeStd", "std")):
        value = properties.get(f"{_PREFIX}{key}")
        if value not in (None, "null"):
            try:
                stated[ours] = load_json(value) if isinstance(value, str) else value
            except ValueError as error:
                raise PreprocessError(f"{source}: {_PREFIX}{key} is {value[:100]!r}; it must be a JSON list") from error
    checked = check_fields({"mean": 0.0, "std": 1.0, **stated}, source)
    if set(checked["mean"]) == {0.0} and set(checked["std"]) == {1.0}:
        return {}
    in_pixels = max(map(abs, (*checked["mean"], *checked["std"]))) > 1
    return checked | {"scale": 1.0 if in_pixels else settings.get("scale", 1 / 255)}


DIALECT = Dialect("Azure Custom Vision", (_MANIFEST, _PROPERTIES), recognises, read)
