"""This module says what a model's graph proves of its pictures and classes, as a Statement like those of files.

A graph that normalises pictures itself proves which values it takes for black and white; one that looks up names of
classes states them. How both are found is the business of the surgery: plain facts come in here.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.producers.statement import Statement

SOURCE = "the graph itself"
"""What messages call a model's graph as a source."""


def graph_statement(
    values: tuple[float, float] | None, order: str | None = None, labels: Sequence[str] | None = None
) -> Statement | None:
    """Return what a graph proves, or None if it proves nothing.

    Args:
        values: the values that the graph takes for a black and a white pixel, such as (0, 255) or (-1, 1).
        order: "RGB" or "BGR" where the graph shows it.
        labels: the names of the classes by id, where the graph looks them up.
    """
    settings: dict[str, object] = {}
    if values is not None:
        low, high = values
        # x = low + pixel (high - low) / 255; where pixels keep their steps, nothing is divided.
        step = (high - low) / 255
        settings = {"scale": 1.0, "mean": -low, "std": 1.0}
        if step != 1:
            settings = {"scale": 1 / 255, "mean": -low / (high - low), "std": 1 / (high - low)}
    if order is not None:
        settings["channels"] = order
    if not settings and labels is None:
        return None
    return Statement.of(SOURCE, settings, labels)
