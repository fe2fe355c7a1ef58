"""This module collects all that is said about a model's pictures and classes, the strongest evidence first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from onnx_xcam.contract import METADATA_KEY
from onnx_xcam.errors import LabelsError, PreprocessError
from onnx_xcam.labels import labels_of_other_tools
from onnx_xcam.metadata import read_hints
from onnx_xcam.producers.beside import statements_beside
from onnx_xcam.producers.dialects.registry import METADATA_DIALECTS
from onnx_xcam.producers.own import own_statement
from onnx_xcam.producers.stated import LabelsLike, PreprocessLike, refused, stated_labels, stated_preprocess
from onnx_xcam.producers.statement import METADATA, Statement


def evidence(
    preprocess: PreprocessLike | None,
    labels: LabelsLike | None,
    metadata: Mapping[str, str],
    path: Path | None,
    graph: Sequence[Statement] = (),
) -> list[Statement]:
    """Return all statements: of the arguments, the metadata, the files beside the model, and its graph.

    Args:
        preprocess: the argument of a user, or None.
        labels: the argument of a user, or None.
        metadata: the model's `metadata_props`.
        path: the model's file, beside which others may lie; None for a model in memory.
        graph: what the graph itself proves.

    Raises:
        PreprocessError, LabelsError: an argument is wrong, or an entry of our own in the metadata.
        ModelError: an entry of our own in the metadata has a wrong form.
    """
    found = [] if labels is None else [stated_labels(labels)]
    if preprocess is not None:
        found.append(stated_preprocess(preprocess))
    found += (replace(one, evidence="metadata") for one in _in_metadata(metadata))
    found += [] if path is None else statements_beside(path)
    return [*found, *graph]


def _in_metadata(props: Mapping[str, str]) -> list[Statement]:
    """Return what the metadata state: under our own keys, in the dialects of producers, and as labels alone."""
    found = []
    own = read_hints(props)
    if own.preprocess is not None:
        found.append(replace(own_statement(own.preprocess, METADATA), binding=False))
    if own.labels is not None:
        if not own.labels:
            raise LabelsError(f"metadata {METADATA_KEY!r}: has no labels")
        found.append(Statement(METADATA, labels=tuple(own.labels)))
    for read in METADATA_DIALECTS:
        try:
            statement = read(props)
        except (PreprocessError, LabelsError) as error:
            statement = refused(METADATA, error)
        if statement is not None:
            found.append(statement)
    if (labels := labels_of_other_tools(props)) is not None:
        found.append(Statement(METADATA, labels=tuple(labels)))
    return found
