"""This module reads what Ultralytics writes into a model's metadata, or into a `metadata.yaml` beside it.

The keys are those of `ultralytics/engine/exporter.py`; what they mean for a picture was taken from the package's own
predictors of several versions (https://github.com/ultralytics/ultralytics: `classify_transforms` and `LetterBox` in
`ultralytics/data/augment.py`, `pre_transform` in `ultralytics/engine/predictor.py`):

- classify: the shorter side becomes `imgsz`, and the middle is cut out, with torchvision's smoothing; a size that is no
  square is stretched to. Before version 8.0.233 the middle was cut out first and resized by OpenCV.
- detect, segment, semantic, pose, obb: letterbox, grey 114 on both sides, OpenCV's linear interpolation.
- depth, and RT-DETR's detection: stretched by OpenCV.

All take RGB in 0..1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.labels import labels_of_other_tools, read_labels
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import METADATA, Statement
from onnx_xcam.text import load_json, load_literal

_SMOOTHED_SINCE = (8, 0, 233)
"""Versions before it do not feed classifiers through torchvision: on PyPI, 8.0.232 does not, and 8.0.236 does."""
_LETTERBOXED = ("detect", "segment", "semantic", "pose", "obb")
_TASKS = ("classify", "depth", *_LETTERBOXED)
_UNIT = {"scale": 1 / 255}
_LONGEST_NUMBER = 9


def metadata(props: Mapping[str, str]) -> Statement | None:
    """Return what Ultralytics' entries of a model's metadata state, or None where there are none."""
    data: dict[str, Any] = dict(props)
    if not _is_own(data):
        return None
    for key in ("imgsz", "args"):
        if key in data:
            data[key] = _value(data[key])
    return _statement(data, METADATA, labels_of_other_tools({"names": props.get("names", "")}))


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the `metadata.yaml` of Ultralytics."""
    return isinstance(file.data, Mapping) and _is_own(file.data)


def read(file: DescriptionFile) -> Statement:
    """Return what the `metadata.yaml` of Ultralytics states."""
    names = file.data.get("names")
    labels = None if names is None else read_labels("", ".yaml", names, f"{file.source}: names")
    return _statement(file.data, file.source, labels)


def _is_own(data: Mapping[str, Any]) -> bool:
    """Tell whether entries are those of Ultralytics: a task of theirs, with a stride or a size."""
    return data.get("task") in _TASKS and bool({"stride", "imgsz"} & data.keys())


def _value(text: str) -> Any:
    """Return the value of an entry that is a Python literal in text, or the text itself."""
    for load in (load_literal, load_json):
        try:
            return load(text)
        except ValueError:
            continue
    return text


def _statement(data: Mapping[str, Any], source: str, labels: list[str] | None) -> Statement:
    """Return what the entries state."""
    size = _size(data.get("imgsz"), source)
    settings = _geometry(data, size) | _UNIT | _channels(data)
    if size is not None:
        settings["size"] = size
    remarks = []
    if data["task"] in _LETTERBOXED and settings["resize"] == "letterbox" and _is_dynamic(data):
        remarks.append(
            f"{source}: args says dynamic, with which Ultralytics pads a photo only to a multiple of the stride; here "
            "it is padded to the whole size."
        )
    return Statement.of(source, settings, labels, remarks)


def _size(imgsz: Any, source: str) -> list[int] | None:
    """Return [height, width], or None where it is not stated."""
    if imgsz is None:
        return None
    sides = list(imgsz) if isinstance(imgsz, (list, tuple)) else [imgsz]
    sides = sides * 2 if len(sides) == 1 else sides
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise PreprocessError(f"{source}: imgsz is {imgsz!r}; it must be one whole number, or height and width")
    return sides


def _geometry(data: Mapping[str, Any], size: list[int] | None) -> dict[str, Any]:
    """Return the settings of resizing for the task."""
    if data["task"] == "classify":
        if size is not None and size[0] != size[1]:
            return {"resize": "stretch", "interpolation": "linear"}
        if _version(data.get("version")) < _SMOOTHED_SINCE:
            return {"resize": "crop", "crop_first": True, "offset_rounding": "floor", "antialias": False}
        return {"resize": "crop", "interpolation": "linear"}
    if data["task"] == "depth" or _is_rtdetr(data):
        return {"resize": "stretch", "antialias": False}
    return {"resize": "letterbox", "pad_value": 114, "antialias": False}


def _channels(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the channels: grey where the entry says 1; other numbers than 3 are bands, whose order nothing states."""
    channels = str(data.get("channels", 3))
    return {"1": {"channels": "GRAY"}, "3": {"channels": "RGB"}}.get(channels, {})


def _is_rtdetr(data: Mapping[str, Any]) -> bool:
    """Tell whether a model is RT-DETR, by its head or, in older files, by the name in its description."""
    description = str(data.get("description", "")).lower()
    return data.get("head") == "RTDETRDecoder" or "rtdetr" in description or "rt-detr" in description


def _is_dynamic(data: Mapping[str, Any]) -> bool:
    """Tell whether the model was exported with open sizes; a literal with values such as True is read as text."""
    arguments = data.get("args")
    if isinstance(arguments, Mapping):
        return arguments.get("dynamic") is True
    return "'dynamic': True" in str(arguments)


def _version(text: Any) -> tuple[int, ...]:
    """Return the first three numbers of a version; an unknown one counts as new."""
    parts = str(text or "").split(".")[:3]
    if len(parts) < 3 or not all(part.isdecimal() and len(part) <= _LONGEST_NUMBER for part in parts):
        return _SMOOTHED_SINCE
    return tuple(map(int, parts))


DIALECT = Dialect("Ultralytics", ("metadata.yaml",), recognises, read)
