"""This module writes the results.csv of `evaluate`: a row for each layer, method and class of a photo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx_xcam.records.evaluate import EvaluateLine, MapResult, by_column
from onnx_xcam.text import printable

_COLUMNS = ("image", "layer", "method", "class", "label", "score", "confidence")
_OBJECT_COLUMNS = ("object", "x1", "y1", "x2", "y2", "annotated", "baseline")
"""The further columns of a model of objects."""


def tabled(
    records: Iterator[EvaluateLine], rows: Any, metrics: tuple[str, ...], *, of_objects: bool = False
) -> Iterator[EvaluateLine]:
    """Yield the records after writing each to a CSV table: a row per layer, method and class, or one with the error.

    Args:
        records: the records.
        rows: the `csv.writer` of the table.
        metrics: the names of the metrics, which are columns of their own.
        of_objects: whether there are columns for objects too.
    """
    columns = (*_COLUMNS, *_OBJECT_COLUMNS) if of_objects else _COLUMNS
    rows.writerow([*columns, *metrics, "error"])
    for record in records:
        ids = record["classes"]
        labels = record["labels"] or [None] * len(ids)
        of_class = list(zip(labels, record["scores"], record["confidences"], strict=True))
        for k, result in by_column(record):
            values = (result["metrics"][name] for name in metrics)
            named = record["image"], result["layer"], result["method"], result["class"]
            of_object = _of_object(record, result, k) if of_objects else ()
            rows.writerow([*map(_cell, (*named, *of_class[k], *of_object, *values)), ""])
        if record["error"] is not None:
            blank = [""] * (len(columns) - 1 + len(metrics))
            rows.writerow([_cell(record["image"]), *blank, _cell(record["error"])])
        yield record


def _of_object(record: EvaluateLine, result: MapResult, k: int) -> tuple[Any, ...]:
    """Return the cells of `_OBJECT_COLUMNS`; what is not known is empty."""
    annotated = record.get("annotated")
    known = None if annotated is None else annotated[k]
    return (
        result.get("object"),
        *(result.get("box") or (None,) * 4),
        None if known is None else int(known),
        int(result.get("baseline", False)),
    )


def _cell(value: Any) -> Any:
    """Return a value for a cell: text becomes one line, with an apostrophe before what a spreadsheet would run."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
