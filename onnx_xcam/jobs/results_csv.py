"""This module writes the results.csv of `evaluate`: a row for each layer, method and class of a photo."""

from __future__ import annotations

from collections import Counter
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
        cells = list(zip(ids, labels, record["scores"], record["confidences"], strict=True))
        seen: Counter[tuple[str, str, int]] = Counter()
        for result in record["results"]:
            place = result["layer"], result["method"], result["class"]
            of_class = [others for id_, *others in cells if id_ == result["class"]]  # several objects may be of one
            own = of_class[seen[place]]
            seen[place] += 1
            values = (result["metrics"][name] for name in metrics)
            named = record["image"], result["layer"], result["method"], result["class"]
            rows.writerow([*map(_cell, (*named, *own, *values)), ""])
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
