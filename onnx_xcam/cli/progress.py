"""A progress bar on a terminal, and lines of text that do not run into it."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

import typer

from onnx_xcam.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class Reporter:
    """Prints results on stdout, messages on stderr, and, where that is a terminal, a bar below them.

    Without a bar, results and messages are what they are in a pipe.
    """

    def __init__(self, done: int, total: int, *, bar: bool) -> None:
        """Prepare a bar for `total` photos, `done` of them already."""
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._above = sys.stdout.isatty()
        if bar and sys.stderr.isatty():
            self._bar = _progress()
            self._task = self._bar.add_task("", completed=done, total=total)

    def __enter__(self) -> Reporter:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self) -> None:
        """One more photo is done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def result(self, text: str) -> None:
        """A line for stdout."""
        if self._bar is not None and self._above:
            self._print(text)
        else:
            typer.echo(printable(text))

    def message(self, text: str) -> None:
        """A line for stderr."""
        if self._bar is not None:
            self._print(text)
        else:
            typer.echo(printable(text), err=True)

    def _print(self, text: str) -> None:
        assert self._bar is not None
        self._bar.console.print(printable(text), soft_wrap=True, markup=False, highlight=False, emoji=False)


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("photos, remaining"), TimeRemainingColumn(compact=True)
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
