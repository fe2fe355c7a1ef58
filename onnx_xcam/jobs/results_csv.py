"""This module writes the results.csv of `evaluate`: a row for each layer, method and class of a photo."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnx_xcam.records.evaluate import EvaluateLine
from onnx_xcam.text import printable

_COLUMNS = ("image", "layer", "method", "class", "label", "score", "confidence")


def tabled(records: Iterator[EvaluateLine], rows: Any, metrics: tuple[str, ...]) -> Iterator[EvaluateLine]:
    """Yield the records after writing each to a CSV table: a row per layer, method and class, or one with the error.

    Args:
        records: the records.
        rows: the `csv.writer` of the table.
        metrics: the names of the metrics, which are columns of their own.
    """
    rows.writerow([*_COLUMNS, *metrics, "error"])
    for record in records:
        ids = record["classes"]
        labels = record["labels"] or [None] * len(ids)
        of_class = list(zip(labels, record["scores"], record["confidences"], strict=True))
        for index, result in enumerate(record["results"]):
            values = (result["metrics"][name] for name in metrics)
            named = record["image"], result["layer"], result["method"], result["class"]
            rows.writerow([*map(_cell, (*named, *of_class[index % len(ids)], *values)), ""])
        if record["error"] is not None:
            blank = [""] * (len(_COLUMNS) - 1 + len(metrics))
            rows.writerow([_cell(record["image"]), *blank, _cell(record["error"])])
        yield record


def _cell(value: Any) -> Any:
    """Return a value for a cell: text becomes one line, with an apostrophe before what a spreadsheet would run."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text
