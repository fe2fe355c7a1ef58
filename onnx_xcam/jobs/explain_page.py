"""The HTML page of `explain`: photo by photo, those of an earlier run among them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from onnx_xcam.errors import XcamError
from onnx_xcam.explainer import Explainer, Explanation
from onnx_xcam.jobs.file_names import raw_fused_name, raw_names
from onnx_xcam.records.explain import ExplainLine
from onnx_xcam.records.lines import files_of
from onnx_xcam.records.reading import read_explained
from onnx_xcam.report import PhotoPage, Settings, photo_of
from onnx_xcam.report.data import Failure, Photo
from onnx_xcam.report.photos import photo_entry


@dataclass(frozen=True)
class EarlierPhotos:
    """Photos that an earlier run has done: their lines of results.jsonl, by where they lie, and its folder."""

    lines: Mapping[Path, bytes]
    folder: Path


class JobPage:
    """The page of an `ExplainJob`: gets its photos in order, and puts those that were done earlier in their places."""

    def __init__(self, page: PhotoPage, explainer: Explainer, photos: Mapping[Path, Path], earlier: EarlierPhotos):
        self._page, self._explainer, self._earlier = page, explainer, earlier
        self._left = iter(photos.items())

    def add(self, image: Path, entry: bytes) -> None:
        """A photo that this run has explained, as `photo_entry` makes it; before it, those that an earlier one had."""
        for other, resolved in self._left:
            if other == image:
                break
            self._add_earlier(other, resolved)
        self._page.add(entry)

    def finish(self) -> None:
        """The photos behind the last one."""
        for image, resolved in self._left:
            self._add_earlier(image, resolved)

    def _add_earlier(self, image: Path, resolved: Path) -> None:
        line = self._earlier.lines.get(resolved)
        if line is not None:
            record = read_explained(line)
            self._page.add(earlier_photo(self._explainer, image, record, self._earlier.folder))


@contextmanager
def job_page(
    file: Path, settings: Settings, explainer: Explainer, photos: Mapping[Path, Path], earlier: EarlierPhotos
) -> Iterator[JobPage]:
    """A page that is complete and in place when the context ends, or not there at all.

    Args:
        file: where it goes.
        settings: how it came about.
        explainer: that explains.
        photos: all of them in order, with where they lie (resolved).
        earlier: those that are done already.
    """
    with PhotoPage(file, settings) as page:
        made = JobPage(page, explainer, photos, earlier)
        yield made
        made.finish()


def entry_of(image: Path, explanations: Sequence[Explanation]) -> bytes:
    """What the page holds of a photo, of which there is an explanation by each method."""
    return photo_entry(photo_of(explanations, name=str(image)))


def failed_entry(image: Path, error: str) -> bytes:
    """What the page holds of a photo that could not be explained."""
    return photo_entry(Failure(str(image), error))


def earlier_photo(explainer: Explainer, image: Path, record: ExplainLine, folder: Path) -> Photo | Failure:
    """A photo that an earlier run has explained: its line of results.jsonl, and its maps as --raw wrote them."""
    try:
        explanations = _read_again(explainer, image, record, folder)
    except (XcamError, OSError, ValueError, LookupError, TypeError, StopIteration, zipfile.BadZipFile) as error:
        return Failure(str(image), f"An earlier run has explained it, but it cannot be shown again: {error}")
    return photo_of(explanations, name=str(image))


def _read_again(explainer: Explainer, image: Path, record: ExplainLine, folder: Path) -> list[Explanation]:
    raw = next(file for file in files_of(record, folder) if file.suffix == ".npz")
    model, count = explainer.model, len(explainer.model.layers)
    several = len(explainer.methods) > 1
    probabilities, pictures = record["probabilities"], [model.prepare(image)]
    found = []
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
                layers=model.layers,
                pictures=pictures,
                notes=model.notes,
                method=method,
                signed=not explainer.relu,
                is_number=model.is_number,
                fused=stored[raw_fused_name(names)][None] if explainer.fuse else None,
            )
            found.append(made)
    return found
