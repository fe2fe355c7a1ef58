"""A request states what a job is asked for, as typed data: for a command line, a test, or a program of one's own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from onnx_xcam.errors import XcamWarning
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.jobs.photos import find_pictures, refuse_mixed
from onnx_xcam.jobs.reporter import Reporter


@dataclass(frozen=True, kw_only=True)
class PhotosRequest:
    """States what both jobs need to know: the model and how it is opened, the photos, and where the results go.

    Attributes:
        model: its file.
        images: photos, and folders of photos.
        out: the folder for the results; it is made, and is this job's own while the job lasts.
        options: how the model is opened.
        classes: as `Explainer.explain` takes them; None is the model's top class, unless `top` is given.
        top: instead of classes: the model's K best.
        recursive: take the photos of folders in the folders too.
        resume: continue what an earlier job has written to `out`, instead of replacing it.
        html: also write a page that shows everything to this file.
        command: the command line that the page tells, if there is one.
    """

    model: Path
    images: Sequence[Path]
    out: Path
    options: ModelOptions = field(default_factory=ModelOptions)
    classes: Classes | None = None
    top: int | None = None
    recursive: bool = False
    resume: bool = False
    html: Path | None = None
    command: str = ""

    def find_photos(self) -> dict[Path, Path]:
        """The photos as they are called, with where they lie (resolved).

        Raises:
            ImageError: a folder without photos.
            OutputError: the job is to be continued in a folder that holds the photos.
        """
        if self.resume:
            refuse_mixed(self.images, self.out)
        return find_pictures(self.images, recursive=self.recursive, leave_out=self.out)


@contextmanager
def without_python_warnings() -> Iterator[None]:
    """Keep `XcamWarning`s from being shown while a job runs, which tells its reporter the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XcamWarning)
        yield


def tell_assumptions(reporter: Reporter, notes: Sequence[str], warned: Sequence[str]) -> None:
    """Tell what was assumed about a model: what deserves a look as a warning, all else as a note."""
    for note in notes:
        if note not in warned:
            reporter.note(note)
    for warning in warned:
        reporter.warning(warning)
