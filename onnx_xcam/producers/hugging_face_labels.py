"""This module reads the labels in the `config.json` that Hugging Face's transformers write beside a model."""

from __future__ import annotations

from collections.abc import Mapping

from onnx_xcam.labels import load_labels
from onnx_xcam.producers.dialect import DescriptionFile, Dialect
from onnx_xcam.producers.statement import Statement


def recognises(file: DescriptionFile) -> bool:
    """Tell whether a file is the configuration of a model with labels."""
    return isinstance(file.data, Mapping) and "id2label" in file.data


def read(file: DescriptionFile) -> Statement:
    """Return the labels in `id2label`."""
    return Statement.of(file.source, labels=load_labels(file.path))


DIALECT = Dialect("Hugging Face", ("config.json",), recognises, read)
