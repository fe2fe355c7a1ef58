"""This package reads class labels from files and model metadata, and resolves labels to class ids.

`formats` reads labels from text and from plain data, whatever file they stand in; `reading` opens files and looks
through metadata; `classes` resolves what a user calls a class.
"""

from __future__ import annotations

from onnx_xcam.labels.classes import label_of, resolve_class
from onnx_xcam.labels.reading import labels_from_metadata, labels_of_other_tools, load_labels, read_labels

__all__ = [
    "label_of",
    "labels_from_metadata",
    "labels_of_other_tools",
    "load_labels",
    "read_labels",
    "resolve_class",
]
