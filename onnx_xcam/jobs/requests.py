"""A request states as typed data what a job does, so that a command, a test or another program can run the job."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from numpy.typing import ArrayLike

from onnx_xcam.errors import OutputError, XcamWarning
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.choosing import Objects, ObjectsAsked
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.model import OpenModel
from onnx_xcam.explainer.options import ModelOptions
from onnx_xcam.jobs.photos import STANDARD_INPUT, find_pictures, refuse_mixed
from onnx_xcam.jobs.reporter import Reporter

MOST_OBJECTS = 5
"""So many objects of a photo are explained where nobody says how many."""


@dataclass(frozen=True, kw_only=True)
class PhotosRequest:
    """A PhotosRequest states what both jobs need: the model and its options, the photos, and the output folder.

    Attributes:
        model: the model's file.
        images: photos, and folders of photos; `-` is the photo whose bytes are `standard_input`.
        out: the folder for the results; it is made if necessary, and no other job may use it at the same time.
        options: how the model is opened.
        classes: the classes, as for `Explainer.explain`; None is the model's top class, unless `top` is given.
        top: the number K of each photo's best classes, instead of `classes`; of a detector its best objects.
        objects, boxes, points, against: as for `Explainer.explain`.
        recursive: whether to take the photos of folders within the folders too.
        resume: whether to continue what an earlier job has written to `out`, instead of replacing it.
        html: the file for a page that shows all results; None for no page.
        command: the command line that the page shows; empty if there is none.
        standard_input: the bytes of the photo that was given as `-`, read from standard input.
    """

    model: Path
    images: Sequence[Path]
    out: Path
    options: ModelOptions = field(default_factory=ModelOptions)
    classes: Classes | None = None
    top: int | None = None
    objects: Objects | None = None
    boxes: ArrayLike | None = None
    points: ArrayLike | None = None
    against: Classes | None = None
    recursive: bool = False
    resume: bool = False
    html: Path | None = None
    command: str = ""
    standard_input: bytes | None = None

    @property
    def asked(self) -> ObjectsAsked:
        """Return what is asked of a model of objects beside classes, by the names of arguments."""
        return {"objects": self.objects, "boxes": self.boxes, "points": self.points, "against": self.against}

    def cells(self, model: OpenModel) -> Cells:
        """Return what is explained in each photo; of a model of objects the best ones, where nothing else is asked for.

        Raises:
            XcamError: as `OpenModel.choose`.
        """
        asked = [self.classes, self.top, self.objects, self.boxes, self.points]
        best = MOST_OBJECTS if model.choosable.has_free_objects and not any(asked) else None
        return model.choose(self.classes, self.top or best, **self.asked)

    def find_photos(self) -> dict[Path, Path]:
        """Return the photos as they were named, with their resolved paths.

        Raises:
            ImageError: a folder has no photos.
            OutputError: the job is to be continued in a folder that also holds the photos, or with standard input.
        """
        if self.resume and STANDARD_INPUT in self.images:
            raise OutputError("A run cannot be continued with a photo from standard input; give its file.")
        if self.resume:
            refuse_mixed(self.images, self.out)
        return find_pictures(self.images, recursive=self.recursive, leave_out=self.out)


@contextmanager
def without_python_warnings() -> Iterator[None]:
    """Suppress `XcamWarning`s while a job runs, since its reporter receives the same sentences."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XcamWarning)
        yield


def tell_assumptions(reporter: Reporter, notes: Sequence[str], warned: Sequence[str]) -> None:
    """Report what was assumed about a model: sentences among `warned` as warnings, all others as notes."""
    for note in notes:
        if note not in warned:
            reporter.note(note)
    for warning in warned:
        reporter.warning(warning)
