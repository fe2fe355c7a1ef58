"""This module reads the `signature.json` that Lobe exports beside a model.

The convention is that of the package `lobe` (https://github.com/lobe/lobe-python: `src/lobe/image_utils.py`,
`src/lobe/signature.py`): the photo is resized by Pillow's `resize`, which is cubic, so that it covers the input, with
rounded sides; the middle is cut out, and the values are in 0..1, RGB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.labels import read_labels
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import Statement

_IMAGE = "Image"


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the signature of a Lobe model of pictures."""
    inputs = file.data.get("inputs") if isinstance(file.data, Mapping) else None
    return isinstance(inputs, Mapping) and isinstance(inputs.get(_IMAGE), Mapping)


def read(file: DescriptionFile) -> Statement:
    """Return what the signature states."""
    shape = file.data["inputs"][_IMAGE].get("shape")
    if not isinstance(shape, list) or len(shape) != 4:
        raise PreprocessError(f"{file.source}: inputs.{_IMAGE}.shape is {shape!r}; it must be [N, height, width, 3]")
    settings: dict[str, Any] = {
        **{"resize": "crop", "size_rounding": "round", "offset_rounding": "floor", "interpolation": "cubic"},
        **{"scale": 1 / 255, "channels": "RGB"},
    }
    if all(isinstance(side, int) for side in shape[1:3]):
        settings["size"] = shape[1:3]
    return Statement.of(file.source, settings, _labels(file))


def _labels(file: DescriptionFile) -> list[str] | None:
    """Return the labels that stand under `classes.Label`, or None."""
    classes = file.data.get("classes")
    if not isinstance(classes, Mapping) or "Label" not in classes:
        return None
    return read_labels("", ".json", classes["Label"], f"{file.source}: classes.Label")


DIALECT = Dialect("Lobe", ("signature.json",), recognises, read)
