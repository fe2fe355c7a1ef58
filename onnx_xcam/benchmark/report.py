"""This module holds the figures that `bench` measures, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onnx_xcam.benchmark.memory import Memory
from onnx_xcam.benchmark.timing import Spread
from onnx_xcam.text import printable

_MB = 1e6


@dataclass(frozen=True)
class Row:
    """A Row holds the figures of one batch size, number of classes and number of threads.

    Attributes:
        batch, classes: the number of images of a run, and of classes of each image.
        threads: the threads of one operator; None leaves it to ONNX Runtime, which takes all cores.
        runs: how many runs of the instrumented model the classes take; more than one where memory demands it.
        rounds: how many pairs of runs were timed.
        plain, instrumented: seconds of a run of the original, and of the instrumented model.
        ratio: instrumented / plain of the pairs.
        memory: the memory of the original and of the instrumented model, each in a process of its own; None where it
            was not measured.
    """

    batch: int
    classes: int
    threads: int | None
    runs: int
    rounds: int
    plain: Spread
    instrumented: Spread
    ratio: Spread
    memory: tuple[Memory, Memory] | None

    @property
    def memory_ratio(self) -> float | None:
        """Return instrumented / plain of the peak memory of runs less the bytes before loading; None if unknown."""
        return self.memory[1].model / self.memory[0].model if self.memory else None

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain data; times in milliseconds, memory in bytes."""
        memory = None
        if self.memory:
            plain, instrumented = (one.to_dict() for one in self.memory)
            memory = {"plain": plain, "instrumented": instrumented, "ratio": self.memory_ratio}
        return {
            **{name: getattr(self, name) for name in ("batch", "classes", "threads", "runs", "rounds")},
            "plain_ms": self.plain.scaled(1000).to_dict(),
            "instrumented_ms": self.instrumented.scaled(1000).to_dict(),
            "ratio": self.ratio.to_dict(),
            "ratio_of_medians": self.instrumented.median / self.plain.median,
            "memory": memory,
        }


@dataclass(frozen=True)
class BenchReport:
    """A BenchReport holds all figures of a call of `bench`.

    Attributes:
        model: the model's file.
        layers, score, method, provider: what was explained, and where it ran.
        machine, versions: the machine and the versions of packages that the figures were measured with.
        notes: what was assumed, and what was not measured.
        rows: the figures.
    """

    model: str
    layers: list[str]
    score: str
    method: str
    provider: str
    machine: str
    versions: dict[str, str]
    notes: list[str]
    rows: list[Row]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**vars(self), "rows": [row.to_dict() for row in self.rows]}

    def text(self) -> str:
        """Return the report as a text for people."""
        about = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        lines = [f"{self.model} on {self.provider}; {self.machine}; {about}", *(f"  {note}" for note in self.notes), ""]
        lines += _table(self.rows)
        lines += ["", "ratio: instrumented / plain of the same round, median (quartiles)."]
        if any(row.memory for row in self.rows):
            lines.append("memory: peak of a process while it runs the model, without what it takes before it loads it.")
        return "\n".join(printable(line) for line in lines)


_HEAD = ("batch", "classes", "threads", "plain", "instrumented", "ratio", "rounds", "memory", "ratio")


def _table(rows: Sequence[Row]) -> list[str]:
    """Return the rows as lines of a table."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(row: Row) -> tuple[str, ...]:
    """Return the cells of a row of the table, in the order of `_HEAD`."""
    runs = f" in {row.runs} runs" if row.runs > 1 else ""
    memory = ("not measured", "")
    if row.memory:
        plain, made = (f"{one.model / _MB:.0f}" for one in row.memory)
        memory = (f"{plain} -> {made} MB", f"{row.memory_ratio:.2f}")
    return (
        str(row.batch),
        f"{row.classes}{runs}",
        "all" if row.threads is None else str(row.threads),
        *(f"{spread.median * 1000:.2f} ms" for spread in (row.plain, row.instrumented)),
        f"{row.ratio.median:.3f} ({row.ratio.low:.3f} to {row.ratio.high:.3f})",
        str(row.rounds),
        *memory,
    )
