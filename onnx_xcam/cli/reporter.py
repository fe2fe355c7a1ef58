"""This module reports a job on the terminal: results on stdout, messages on stderr, and a progress bar below them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from onnx_xcam.records.evaluate import SanityFigures, Summary
from onnx_xcam.text import printable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class TerminalReporter:
    """A TerminalReporter prints results on stdout and messages on stderr, with a bar below them if it is a terminal.

    The bar changes nothing in results and messages, which are the same in a pipe.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        """Report on the terminal; with `quiet`, print no notes and no bar."""
        self._quiet = quiet
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def note(self, text: str) -> None:
        """Print a note on stderr, unless quiet."""
        if not self._quiet:
            self._message(f"note: {text}")

    def warning(self, text: str) -> None:
        """Print a warning on stderr."""
        self._message(f"warning: {text}")

    def error(self, text: str) -> None:
        """Print an error on stderr."""
        self._message(f"error: {text}")

    def result(self, text: str) -> None:
        """Print a line of results on stdout."""
        if self._bar is not None and sys.stdout.isatty():
            _print_above(self._bar, text)
        else:
            typer.echo(printable(text))

    def summary(self, summary: Summary) -> None:
        """Print the summary of an evaluation as tables on stdout."""
        from onnx_xcam.cli.evaluate_table import print_summary

        print_summary(summary)

    def sanity(self, steps: Sequence[SanityFigures]) -> None:
        """Print the steps of a sanity check as tables on stdout."""
        from onnx_xcam.cli.evaluate_table import print_sanity

        print_sanity(steps)

    @contextmanager
    def photos(self, done: int, total: int) -> Iterator[None]:
        """Show a bar while the context lasts, where there is a terminal and more than one photo is left."""
        if self._quiet or total - done <= 1 or not sys.stderr.isatty():
            yield
            return
        self._bar = _progress()
        self._task = self._bar.add_task("", completed=done, total=total)
        try:
            with self._bar:
                yield
        finally:
            self._bar = self._task = None

    def photo_done(self) -> None:
        """Advance the bar by one photo."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def interrupted(self, done: int, total: int) -> None:
        """Print how to continue the job, unless quiet."""
        if not self._quiet:
            self._message(
                f"interrupted: {done} of {total} photos are done; the same command with --resume does the others."
            )

    def _message(self, text: str) -> None:
        """Print a line on stderr, above the bar if there is one."""
        if self._bar is not None:
            _print_above(self._bar, text)
        else:
            typer.echo(printable(text), err=True)


def _print_above(bar: Progress, text: str) -> None:
    """Print a line above the bar."""
    bar.console.print(printable(text), soft_wrap=True, markup=False, highlight=False, emoji=False)


def _progress() -> Progress:
    """Return a progress bar on stderr, which counts photos and disappears at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TextColumn("photos, remaining"), TimeRemainingColumn(compact=True)
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
