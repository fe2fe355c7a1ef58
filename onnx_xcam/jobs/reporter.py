"""A job calls a `Reporter` with what happens while it runs; the reporter decides how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from onnx_xcam.records.evaluate import SanityFigures, Summary


class Reporter(Protocol):
    """A Reporter receives what happens in a job, in the thread that runs it; every text is one line."""

    def note(self, text: str) -> None:
        """Receive a note, such as an assumption; nothing went wrong."""

    def warning(self, text: str) -> None:
        """Receive a warning; there are results, but they deserve a look."""

    def error(self, text: str) -> None:
        """Receive the error of a photo that has no result; the job goes on."""

    def result(self, text: str) -> None:
        """Receive a line of the results themselves."""

    def summary(self, summary: Summary) -> None:
        """Receive the summary of an evaluation, as summary.json has it."""

    def sanity(self, steps: Sequence[SanityFigures]) -> None:
        """Receive the steps of a sanity check, as summary.json has them."""

    def photos(self, done: int, total: int) -> AbstractContextManager[None]:
        """Return the context in which photos are worked on; an earlier run has done `done` of `total` photos."""
        ...

    def photo_done(self) -> None:
        """Receive that one more photo is done, with or without a result."""

    def interrupted(self, done: int, total: int) -> None:
        """Receive that the user ended the job, when `done` of `total` photos had a line in results.jsonl."""


class Silent:
    """Silent is a reporter that shows nothing; errors of photos are in results.jsonl too."""

    def note(self, text: str) -> None:
        """Ignore a note."""

    def warning(self, text: str) -> None:
        """Ignore a warning."""

    def error(self, text: str) -> None:
        """Ignore an error."""

    def result(self, text: str) -> None:
        """Ignore a line of the results."""

    def summary(self, summary: Summary) -> None:
        """Ignore the summary of an evaluation."""

    def sanity(self, steps: Sequence[SanityFigures]) -> None:
        """Ignore the steps of a sanity check."""

    def photos(self, done: int, total: int) -> AbstractContextManager[None]:
        """Return a context that shows no progress."""
        return nullcontext()

    def photo_done(self) -> None:
        """Ignore that a photo is done."""

    def interrupted(self, done: int, total: int) -> None:
        """Ignore that the user ended the job."""
