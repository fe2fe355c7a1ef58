"""The summary of an evaluation as tables: one for each layer, a row per metric, a column per method."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnx_xcam.text import printable

_ARROWS = {"higher": " (higher is better)", "lower": " (lower is better)", None: ""}
_WIDE = 1000
"""Characters of a line where nobody looks at a terminal: nothing is cut off."""


def print_summary(summary: Mapping[str, Any]) -> None:
    """Print mean ± standard deviation of every metric; the best of a row is marked with a star."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    for layer in summary["layers"]:
        rows = [row for row in summary["rows"] if row["layer"] == layer]
        table = Table(title=Text(printable(f"layer {layer}")), title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("", overflow="fold")
        for row in rows:
            table.add_column(Text(printable(row["method"])), justify="right", overflow="fold")
        for metric in summary["metrics"]:
            figures = [row["metrics"][metric["name"]] for row in rows]
            if any(one["count"] for one in figures):
                title = metric["title"] + _ARROWS[metric["better"]]
                table.add_row(Text(title), *_cells(figures, metric["better"]))
        console.print(table)


def _cells(figures: Sequence[Mapping[str, Any]], better: str | None) -> list[Text]:
    means = {number(one["mean"]): one["mean"] for one in figures if one["mean"] is not None}
    best = None
    if better is not None and len(means) > 1:  # what looks the same is not told apart
        best = (max if better == "higher" else min)(means, key=lambda shown: means[shown])
    return [_cell(one, best) for one in figures]


def _cell(figures: Mapping[str, Any], best: str | None) -> Text:
    if figures["mean"] is None:
        return Text("-")
    mean = number(figures["mean"])
    spread = "" if figures["std"] is None else f" ± {number(figures['std'])}"
    return Text(f"* {mean}{spread}", "bold") if mean == best else Text(f"{mean}{spread}")


def number(value: float) -> str:
    """Three digits behind the point, or three digits in all where that would say nothing."""
    small = 0 < abs(value) < 0.001
    return f"{value:.3g}" if small or abs(value) >= 10_000 or not math.isfinite(value) else f"{value:.3f}"
