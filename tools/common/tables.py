"""Figures are written as Markdown tables, with what they were taken on."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.benchmark.machine import machine, versions

Row = Sequence[str]


def in_markdown(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, ["---"] * len(head), *rows))


def taken_on() -> str:
    """What the figures were taken on, and with."""
    with_ = ", ".join(f"{name} {version}" for name, version in versions("onnx", "onnxruntime", "numpy").items())
    return f"{machine()}; {with_}"
