"""This module reads the `metadata.json` that Qualcomm AI Hub Models write beside an exported model.

`model_files` describes the inputs and outputs of each file: an input with `io_type` image has a `value_range`, and
`image_metadata: color_format`; an output may name its `labels_file`. This is `ModelMetadata` in
`qai_hub_models/configs/model_metadata.py` and `TensorSpec` in `qai_hub_models/configs/tensor_spec.py`
(https://github.com/quic/ai-hub-models). How a photo is resized is not stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnx_xcam.errors import PreprocessError
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.label_file import first_labels_named
from onnx_xcam.producers.statement import Statement

_COLOURS = {"rgb": "RGB", "bgr": "BGR", "grayscale": "GRAY"}


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the metadata of AI Hub Models, of which one file has an image among its inputs."""
    return isinstance(file.data, Mapping) and next(_images(file.data), None) is not None


def _tensors(data: Mapping[str, Any], kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs or the outputs of all files that the metadata describe."""
    files = data.get("model_files")
    for described in files.values() if isinstance(files, Mapping) else ():
        tensors = described.get(kind) if isinstance(described, Mapping) else None
        yield from (t for t in tensors.values() if isinstance(t, Mapping)) if isinstance(tensors, Mapping) else ()


def _images(data: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs that are images."""
    return (tensor for tensor in _tensors(data, "inputs") if str(tensor.get("io_type")).lower() == "image")


def read(file: DescriptionFile) -> Statement:
    """Return what the metadata state of values, channels and classes."""
    images = list(_images(file.data))
    if any(_stated(image) != _stated(images[0]) for image in images):
        raise PreprocessError(f"{file.source}: model_files describes images of several kinds; state the preprocessing")
    span, colour = _stated(images[0])
    settings: dict[str, Any] = {}
    if colour is not None:
        if str(colour) not in _COLOURS:
            raise PreprocessError(f"{file.source}: color_format is {colour!r}; rgb, bgr and grayscale are supported")
        settings["channels"] = _COLOURS[str(colour)]
    if span is not None:
        low, high = _span(file, span)
        settings |= {"scale": (high - low) / 255, "mean": -low, "std": 1.0}
    named = (output.get("labels_file") for output in _tensors(file.data, "outputs"))
    return Statement.of(file.source, settings, first_labels_named(file, named))


def _stated(image: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the value range and the color format that are stated of an image, None for what is not stated."""
    details = image.get("image_metadata")
    colour = details.get("color_format") if isinstance(details, Mapping) else None
    return image.get("value_range"), colour


def _span(file: DescriptionFile, span: Any) -> tuple[float, float]:
    """Return the lowest and the highest value that an image has."""
    if isinstance(span, list) and len(span) == 2 and all(type(v) in (int, float) for v in span):
        low, high = span
        if abs(low) < 1e6 and abs(high) < 1e6 and low < high:
            return float(low), float(high)
    raise PreprocessError(f"{file.source}: value_range is {span!r}; it must be the lowest and the highest value")


DIALECT = Dialect("Qualcomm AI Hub", ("metadata.json",), recognises, read)
