"""This module writes the HTML page of `explain` photo by photo, with the photos of an earlier run among them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import XcamError
from onnx_xcam.explainer import Explainer, Explanation
from onnx_xcam.jobs.file_names import raw_fused_name, raw_names
from onnx_xcam.records.explain import ExplainLine
from onnx_xcam.records.lines import files_of
from onnx_xcam.records.reading import read_explained
from onnx_xcam.report import PhotoPage, Settings, photo_of
from onnx_xcam.report.data import Failure, Photo
from onnx_xcam.report.photos import photo_entry

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class EarlierPhotos:
    """EarlierPhotos are the photos that an earlier run has done.

    Attributes:
        lines: their lines of results.jsonl, by the photo's resolved path.
        folder: the folder of results.jsonl.
    """

    lines: Mapping[Path, bytes]
    folder: Path


class JobPage:
    """A JobPage is the page of an `ExplainJob`; it takes new photos in order, and inserts those already done."""

    def __init__(self, page: PhotoPage, explainer: Explainer, photos: Mapping[Path, Path], earlier: EarlierPhotos):
        self._page, self._explainer, self._earlier = page, explainer, earlier
        self._left = iter(photos.items())

    def add(self, image: Path, entry: bytes) -> None:
        """Add the entry of a photo of this run, after those photos before it that an earlier run has done."""
        for other, resolved in self._left:
            if other == image:
                break
            self._add_earlier(other, resolved)
        self._page.add(entry)

    def finish(self) -> None:
        """Add the photos after the last one of this run, which an earlier run has done."""
        for image, resolved in self._left:
            self._add_earlier(image, resolved)

    def _add_earlier(self, image: Path, resolved: Path) -> None:
        """Add a photo if an earlier run has done it."""
        line = self._earlier.lines.get(resolved)
        if line is not None:
            record = read_explained(line)
            self._page.add(earlier_photo(self._explainer, image, record, self._earlier.folder))


@contextmanager
def job_page(
    file: Path, settings: Settings, explainer: Explainer, photos: Mapping[Path, Path], earlier: EarlierPhotos
) -> Iterator[JobPage]:
    """Open a page to add photos to; it is written as a whole when the context ends, and not at all on an error.

    Args:
        file: the path of the page.
        settings: what the page says of how it was made.
        explainer: the explainer of this run.
        photos: all photos in order, with their resolved paths.
        earlier: the photos that are done already.
    """
    with PhotoPage(file, settings) as page:
        made = JobPage(page, explainer, photos, earlier)
        yield made
        made.finish()


def entry_of(image: Path, explanations: Sequence[Explanation]) -> bytes:
    """Return the page's entry for a photo, given its explanation by each method."""
    return photo_entry(photo_of(explanations, name=str(image)))


def failed_entry(image: Path, error: str) -> bytes:
    """Return the page's entry for a photo that could not be explained."""
    return photo_entry(Failure(str(image), error))


def earlier_photo(explainer: Explainer, image: Path, record: ExplainLine, folder: Path) -> Photo | Failure:
    """Return a photo that an earlier run has explained, from its line of results.jsonl and its raw maps."""
    try:
        if not record["classes"]:  # a photo without objects, of which there are no raw maps
            picture = explainer.model.prepare(image)
            return Photo(str(image), picture.image_rgb, picture.placement, (), ())
        explanations = _read_again(explainer, image, record, folder)
    except (XcamError, OSError, ValueError, LookupError, TypeError, StopIteration, zipfile.BadZipFile) as error:
        return Failure(str(image), f"An earlier run has explained it, but it cannot be shown again: {error}")
    return photo_of(explanations, name=str(image))


def _read_again(explainer: Explainer, image: Path, record: ExplainLine, folder: Path) -> list[Explanation]:
    """Read the explanation by each method of a photo that an earlier run has explained."""
    raw = next(file for file in files_of(record, folder) if file.suffix == ".npz")
    model, count = explainer.model, len(explainer.model.shown_layers)
    several = len(explainer.methods) > 1
    probabilities, pictures = record["probabilities"], [model.prepare(image)]
    explanations = []
    with np.load(raw) as stored:
        for method in explainer.methods:
            names = raw_names(method if several else "", count)
            status = [one["status"] for one in record["maps"] if one["method"] == method]
            made = Explanation(
                classes=stored["classes"][None],
                scores=stored["scores"][None],
                probabilities=None if probabilities is None else np.array([probabilities], np.float32),  # None: NaN
                maps=[stored[name][None] for name in names],
                status=[np.array([of], np.int64) for of in status],
                labels=model.labels,
                layers=model.shown_layers,
                names=model.loaded.shown_names,
                task=model.task,
                objects=_row(record.get("objects"), np.int64),
                boxes=_row(record.get("boxes"), np.float32),
                against=_row(record.get("against"), np.int64),
                pictures=pictures,
                notes=model.notes,
                method=method,
                signed=not explainer.relu,
                is_number=model.is_number,
                fused=stored[raw_fused_name(names)][None] if explainer.fuse else None,
            )
            explanations.append(made)
    return explanations


def _row(values: object, dtype: type[T]) -> NDArray[T] | None:
    """Return a field of a line as an array with an axis of images, or None where the line has no such field."""
    return None if values is None else np.array([values], dtype)
