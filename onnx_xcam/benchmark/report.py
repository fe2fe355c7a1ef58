"""The figures that `bench` finds, as data and as text."""

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
    """One batch size, number of classes and number of threads.

    Attributes:
        batch, classes: images of a run, and classes of each.
        threads: of one operator; None leaves it to ONNX Runtime: all cores.
        runs: how many runs of the instrumented model the classes take; more than one where memory bids it.
        rounds: how many pairs were timed.
        plain, instrumented: seconds.
        ratio: of the pairs, instrumented / plain.
        memory: peak memory of either, in processes of their own; None where it is not measured.
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
        """Peak memory of the runs without what was there before the model was loaded, instrumented / plain."""
        return self.memory[1].model / self.memory[0].model if self.memory else None

    def to_dict(self) -> dict[str, Any]:
        """The row as plain data; times in milliseconds, memory in bytes."""
        memory = None
        if self.memory:
            plain, instrumented = (found.to_dict() for found in self.memory)
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
    """What `bench` found.

    Attributes:
        model: the file.
        layers, score, method, provider: what was explained, and where it ran.
        machine, versions: what the figures were taken on and with.
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
        """The report as plain data."""
        return {**vars(self), "rows": [row.to_dict() for row in self.rows]}

    def text(self) -> str:
        """The report for people."""
        about = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        lines = [f"{self.model} on {self.provider}; {self.machine}; {about}", *(f"  {note}" for note in self.notes), ""]
        lines += _table(self.rows)
        lines += ["", "ratio: instrumented / plain of the same round, median (quartiles)."]
        if any(row.memory for row in self.rows):
            lines.append("memory: peak of a process while it runs the model, without what it takes before it loads it.")
        return "\n".join(printable(line) for line in lines)


_HEAD = ("batch", "classes", "threads", "plain", "instrumented", "ratio", "rounds", "memory", "ratio")


def _table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines, in columns."""
    cells = [_HEAD, *map(_cells, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEAD))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def _cells(row: Row) -> tuple[str, ...]:
    runs = f" in {row.runs} runs" if row.runs > 1 else ""
    memory = ("not measured", "")
    if row.memory:
        plain, made = (f"{found.model / _MB:.0f}" for found in row.memory)
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
