"""This module reads what Google's Teachable Machine exports: `labels.txt` beside `keras_model.h5`, or `metadata.json`.

The conventions are those of its own snippets (https://github.com/googlecreativelab/teachablemachine-community,
snippets/markdown/image/tensorflow/keras.md): the middle of the photo, of the input's aspect ratio, is scaled by
Pillow's `ImageOps.fit` with Lanczos' filter, and x = pixel / 127.5 - 1, RGB. A line of `labels.txt` is "0 cat".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.common.files import is_file
from onnx_xcam.labels import read_labels
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import Statement

_LABELS, _METADATA = "labels.txt", "metadata.json"
_MODELS = ("keras_model.h5", "keras_Model.h5", "keras_model.onnx", "keras_Model.onnx")
"""The names of an exported model, the second as the snippet spells it, and of what such a file is converted to."""
_SETTINGS: Mapping[str, Any] = {
    **{"resize": "crop", "size_rounding": "exact", "interpolation": "lanczos"},
    **{"scale": 1 / 127.5, "mean": 1.0, "channels": "RGB"},
}


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the metadata of an image project, or the labels beside an exported Keras model."""
    if isinstance(file.data, Mapping):
        return "tmVersion" in file.data or file.data.get("packageName") == "@teachablemachine/image"
    if file.path.name != _LABELS or not any(is_file(file.path.with_name(name)) for name in _MODELS):
        return False
    lines = [line.split(maxsplit=1) for line in file.text.splitlines() if line.strip()]
    return bool(lines) and [line[0] for line in lines] == [str(at) for at in range(len(lines))]


def read(file: DescriptionFile) -> Statement:
    """Return what an export states."""
    if not isinstance(file.data, Mapping):
        return Statement.of(file.source, _SETTINGS, read_labels(file.text, ".txt", None, file.source))
    settings = dict(_SETTINGS)
    if isinstance(file.data.get("imageSize"), int):
        settings["size"] = file.data["imageSize"]
    labels = file.data.get("labels")
    names = None if labels is None else read_labels("", ".json", labels, f"{file.source}: labels")
    return Statement.of(file.source, settings, names)


DIALECT = Dialect("Teachable Machine", (_METADATA, _LABELS), recognises, read)
