"""This module prints the summary of an evaluation: a table per layer, with a row per metric and a column per method."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from onnx_xcam.records.evaluate import Figures, SanityFigures, Summary
from onnx_xcam.text import printable

_ARROWS = {"higher": " (higher is better)", "lower": " (lower is better)", None: ""}
_WIDE = 1000
"""The width of a table in characters where stdout is no terminal, so that nothing is cut off."""


def print_summary(summary: Summary) -> None:
    """Print mean ± standard deviation of every metric, with a star at the best method of a row."""
    console = _console()
    for layer in summary["layers"]:
        rows = [row for row in summary["rows"] if row["layer"] == layer]
        table = Table(title=Text(printable(f"layer {layer}")), title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("", overflow="fold")
        for row in rows:
            baseline = "\n(baseline)" if row.get("baseline") else ""
            table.add_column(Text(printable(row["method"]) + baseline), justify="right", overflow="fold")
        for metric in summary["metrics"]:
            figures = [row["metrics"][metric["name"]] for row in rows]
            if any(one["count"] for one in figures):
                title = metric["title"] + _ARROWS[metric["better"]]
                of_methods = [not row.get("baseline", False) for row in rows]
                table.add_row(Text(title), *_cells(figures, of_methods, metric["better"]))
        console.print(table)


def print_sanity(steps: Sequence[SanityFigures]) -> None:
    """Print how much maps change as more and more layers are random, from the score towards the input."""
    console = _console()
    for target in dict.fromkeys(step["target"] for step in steps):
        rows = [step for step in steps if step["target"] == target]
        title = f"sanity check, layer {target}: rank correlation with the original map / of absolute values"
        table = Table(title=Text(printable(title)), title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("random layers", overflow="fold")
        for depth in dict.fromkeys(step["depth"] for step in rows):
            table.add_column(Text(f"{depth} of {rows[0]['of']}"), justify="right", overflow="fold")
        table.add_column("follows the model", overflow="fold")
        for method in dict.fromkeys(step["method"] for step in rows):
            mine = [step for step in rows if step["method"] == method]
            cells = [f"{_or_dash(step['rank_correlation'])} / {_or_dash(step['absolute'])}" for step in mine]
            verdict = {True: "yes", False: "NO", None: "-"}[mine[-1]["follows"]]
            table.add_row(*map(Text, (method, *cells, verdict)))
        console.print(table)


def _or_dash(value: float | None) -> str:
    """Return a value with two digits behind the point, or a dash for None."""
    return "-" if value is None else f"{value:.2f}"


def _console() -> Console:
    """Return the console that prints on stdout."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE, highlight=False)


def _cells(figures: Sequence[Figures], of_methods: Sequence[bool], better: str | None) -> list[Text]:
    """Return the cells of a row; the best mean of a method is marked if one is better than another, baselines never."""
    pairs = list(zip(figures, of_methods, strict=True))
    means = {number(one["mean"]): one["mean"] for one, counts in pairs if counts and one["mean"] is not None}
    best = None
    if better is not None and len(means) > 1:  # means that are printed alike are equally good
        best = (max if better == "higher" else min)(means, key=lambda shown: means[shown])
    return [_cell(one, best if counts else None) for one, counts in pairs]


def _cell(figures: Figures, best: str | None) -> Text:
    """Return the cell with mean and standard deviation, bold and with a star if its mean is the best."""
    if figures["mean"] is None:
        return Text("-")
    mean = number(figures["mean"])
    spread = "" if figures["std"] is None else f" ± {number(figures['std'])}"
    return Text(f"* {mean}{spread}", "bold") if mean == best else Text(f"{mean}{spread}")


def number(value: float) -> str:
    """Return a number with three digits behind the point, or with three significant digits if it is tiny or large."""
    small = 0 < abs(value) < 0.001
    return f"{value:.3g}" if small or abs(value) >= 10_000 or not math.isfinite(value) else f"{value:.3f}"
