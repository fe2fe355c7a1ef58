"""This module reads class labels from files and from a model's metadata."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx_xcam.common.descriptions import DATA_SUFFIXES, load_description, read_stated
from onnx_xcam.contract import METADATA_KEY
from onnx_xcam.errors import LabelsError
from onnx_xcam.labels.formats import from_data, from_lines, from_metadata_text
from onnx_xcam.labels.tables import from_pbtxt, from_table
from onnx_xcam.metadata import read_hints

_METADATA_KEYS = ("names", "labels", "classes", "id2label", "label_names", "class_names")
"""The keys of a model's metadata under which exporters store labels, in the order in which they are tried."""
_TABLES = {".csv": ",", ".tsv": "\t"}


def load_labels(path: str | Path) -> list[str]:
    """Return the class labels in a file, by class id.

    A text file has one label per line, perhaps numbered ("0: cat", "0 cat") and perhaps led by a WordNet id
    ("n01440764 tench, Tinca tinca"), which is dropped. A .json, .yaml or .yml file holds a list of labels, labels by
    class id or class ids by label, either alone or under a key such as "id2label" (Hugging Face), "names"
    (Ultralytics), "vocab" (fastai), "labels" or "classes". ImageNet's own form, {"0": ["n01440764", "tench"]}, and
    lists of classes, [{"id": 0, "name": "cat"}], are understood as well. A .csv or .tsv file is a table with or without
    a header, and a .pbtxt file a label map of TensorFlow's object detection. Ids that a file leaves out get "".

    Raises:
        LabelsError: the file cannot be read, is no such file, or has no labels.
    """
    path = Path(path)
    text = read_stated(path, LabelsError, "no such labels file")
    suffix = path.suffix.lower()
    data = None
    if suffix in DATA_SUFFIXES:
        try:
            data = load_description(text, suffix)
        except ValueError as error:
            raise LabelsError(f"{path}: not valid {suffix[1:].upper()}: {' '.join(str(error).split())}") from error
    return read_labels(text, suffix, data, str(path))


def read_labels(text: str, suffix: str, data: Any, source: str) -> list[str]:
    """Return the class labels in the content of a file, by class id.

    Args:
        text: the file's text.
        suffix: the suffix of its name, which tells its format.
        data: what the text holds, for a .json, .yaml or .yml file.
        source: what messages call the file.

    Raises:
        LabelsError: it has no labels, or they contradict each other.
    """
    suffix = suffix.lower()
    if suffix in DATA_SUFFIXES:
        return from_data(data, source)
    if suffix == ".pbtxt":
        return from_pbtxt(text, source)
    if suffix in _TABLES:
        return from_table(text, _TABLES[suffix], source)
    return from_lines(text, source)


def labels_from_metadata(props: Mapping[str, str]) -> list[str] | None:
    """Return the labels that a model's `metadata_props` hold, or None.

    The labels of onnx_xcam itself (`read_hints`) come first, then those of `labels_of_other_tools`.

    Raises:
        ModelError: the entry of onnx_xcam itself is not of the right type.
        LabelsError: the entry of onnx_xcam itself holds an empty list.
    """
    own = read_hints(props).labels
    if own is None:
        return labels_of_other_tools(props)
    if not own:
        raise LabelsError(f"metadata {METADATA_KEY!r}: has no labels")
    return list(own)


def labels_of_other_tools(props: Mapping[str, str]) -> list[str] | None:
    """Return the labels that a model's `metadata_props` hold under the keys of other tools than this one, or None.

    The keys are "names" (Ultralytics: a Python dict in text), "labels", "classes", "id2label", "label_names" and
    "class_names"; a value is JSON, a Python literal, or lines. What cannot be understood is passed over.
    """
    for key in _METADATA_KEYS:
        if key in props:
            try:
                return from_metadata_text(props[key], f"metadata {key!r}")
            except LabelsError:
                continue  # another tool's key of the same name, such as "classes: 1000"
    return None
