"""This module says what a model's graph proves of its pictures and classes, as a Statement like those of files.

A graph that normalises pictures itself proves which values it takes for black and white; one that looks up names of
classes states them. How both are found is the business of the surgery: plain facts come in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx_xcam.producers.statement import Statement

SOURCE = "the graph itself"
"""What messages call a model's graph as a source."""


def graph_statements(
    values: tuple[float, float] | None, order: str | None = None, labels: Sequence[str] | None = None
) -> tuple[Statement, ...]:
    """Return what a graph proves as one statement, or none if it proves nothing.

    Args:
        values: the values that the graph takes for a black and a white pixel, such as (0, 255) or (-1, 1).
        order: "RGB" or "BGR" where the graph shows it.
        labels: the names of the classes by id, where the graph looks them up.
    """
    settings: dict[str, object] = {} if values is None else _settings(*values)
    if order is not None:
        settings["channels"] = order
    if not settings and labels is None:
        return ()
    return (replace(Statement.of(SOURCE, settings, labels), evidence="graph"),)


def _settings(low: float, high: float) -> dict[str, object]:
    """Return the settings of x = low + pixel (high - low) / 255; 0 - low has no negative zero."""
    if high - low == 255:
        return {"scale": 1.0, "mean": 0.0 - low, "std": 1.0}
    return {"scale": 1 / 255, "mean": (0.0 - low) / (high - low), "std": 1 / (high - low)}
