"""A job tells a `Reporter` what happens while it runs; how that is shown is the reporter's own affair."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from onnx_xcam.records.evaluate import SanityFigures, Summary


class Reporter(Protocol):
    """Whoever runs a job is told by these methods, in the thread that runs it; every text is one line."""

    def note(self, text: str) -> None:
        """Take a note: nothing went wrong, and nothing needs a look."""

    def warning(self, text: str) -> None:
        """Take a warning: the results are there, and deserve a look."""

    def error(self, text: str) -> None:
        """Take an error: a photo has no result; the job goes on."""

    def result(self, text: str) -> None:
        """Take a line of the results themselves."""

    def summary(self, summary: Summary) -> None:
        """Take the summary of an evaluation, as summary.json has it."""

    def sanity(self, steps: Sequence[SanityFigures]) -> None:
        """Take the steps of a sanity check, as summary.json has them."""

    def photos(self, done: int, total: int) -> AbstractContextManager[None]:
        """Follow the photos while the context lasts: of `total`, an earlier run has done `done`."""
        ...

    def photo_done(self) -> None:
        """Count one more photo, with or without a result."""

    def interrupted(self, done: int, total: int) -> None:
        """Learn that the user ended the job, when `done` of `total` photos had their line in results.jsonl."""


class Silent:
    """A reporter that shows nothing: what went wrong with a photo is in results.jsonl too."""

    def note(self, text: str) -> None:
        """Leave out a note."""

    def warning(self, text: str) -> None:
        """Leave out a warning."""

    def error(self, text: str) -> None:
        """Leave out an error."""

    def result(self, text: str) -> None:
        """Leave out a line of the results."""

    def summary(self, summary: Summary) -> None:
        """Leave out the summary."""

    def sanity(self, steps: Sequence[SanityFigures]) -> None:
        """Leave out the sanity check."""

    def photos(self, done: int, total: int) -> AbstractContextManager[None]:
        """Show no progress."""
        return nullcontext()

    def photo_done(self) -> None:
        """Leave out that a photo is done."""

    def interrupted(self, done: int, total: int) -> None:
        """Leave out that the job was ended."""
