"""This module reads the metadata of a TFLite model as JSON, which its tools write beside the model.

`MetadataDisplayer.get_metadata_json` of tflite-support returns them, and its guide writes them to NAME.json
(https://github.com/tensorflow/tflite-support, `tensorflow_lite_support/metadata/metadata_schema.fbs`). An image input's
`NormalizationOptions` mean (pixel - mean) / std of pixels of 0 to 255; the quantised form of a model has the same
options, but its uint8 input gets the values scaled back to 0 to 255. Such an input is told by its `stats`, which the
library's writer sets to 0 and 255 for uint8 alone, and for floats to what black and white become
(`InputImageTensorMd` in `tensorflow_lite_support/metadata/python/metadata_writers/metadata_info.py`). An associated
file of the type TENSOR_AXIS_LABELS holds the labels. How a photo is resized is not stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.dialects.label_file import first_labels_named
from onnx_xcam.producers.statement import Statement

_COLOURS = {"RGB": "RGB", "GRAYSCALE": "GRAY"}


def _maps(data: Any, key: str) -> Iterator[Mapping[str, Any]]:
    """Yield the objects in a list that stands under a key of an object."""
    entries = data.get(key) if isinstance(data, Mapping) else None
    return (entry for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, Mapping))


def _tensors(data: Any, kind: str) -> Iterator[Mapping[str, Any]]:
    """Yield the metadata of the inputs or the outputs of all subgraphs."""
    return (tensor for graph in _maps(data, "subgraph_metadata") for tensor in _maps(graph, kind))


def _images(data: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs that are images."""
    for tensor in _tensors(data, "input_tensor_metadata"):
        content = tensor.get("content")
        if isinstance(content, Mapping) and content.get("content_properties_type") == "ImageProperties":
            yield tensor


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the metadata of a TFLite model that takes an image."""
    return next(_images(file.data), None) is not None


def read(file: DescriptionFile) -> Statement:
    """Return what the metadata of a TFLite model state of values, channels and classes."""
    image = next(_images(file.data))
    settings: dict[str, Any] = {}
    properties = image["content"].get("content_properties")
    colour = properties.get("color_space") if isinstance(properties, Mapping) else None
    if str(colour) in _COLOURS:
        settings["channels"] = _COLOURS[str(colour)]
    for unit in _maps(image, "process_units"):
        options = unit.get("options")
        if unit.get("options_type") == "NormalizationOptions" and isinstance(options, Mapping):
            settings |= {"scale": 1.0, "mean": options.get("mean"), "std": options.get("std")}
    if "mean" in settings and _is_quantised(image):
        settings |= {"mean": 0.0, "std": 1.0}
    files = [f for tensor in _tensors(file.data, "output_tensor_metadata") for f in _maps(tensor, "associated_files")]
    named = (entry.get("name") for entry in files if entry.get("type") == "TENSOR_AXIS_LABELS")
    return Statement.of(file.source, settings, first_labels_named(file, named))


def _is_quantised(image: Mapping[str, Any]) -> bool:
    """Tell whether the statistics of an input say that it holds pixels of 0 to 255."""
    stats = image.get("stats")
    if not isinstance(stats, Mapping):
        return False
    spans = [(stats.get("min"), 0), (stats.get("max"), 255)]
    return all(isinstance(span, list) and span and all(v == limit for v in span) for span, limit in spans)


DIALECT = Dialect("TFLite", ("{stem}.json", "{stem}_metadata.json"), recognises, read)
