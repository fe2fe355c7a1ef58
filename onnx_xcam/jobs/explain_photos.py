"""This module explains the photos of `explain`, and writes the files and the line in results.jsonl of each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.files import writing_to
from onnx_xcam.errors import ImageError
from onnx_xcam.explainer import Explainer, Explanation, Streamed
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.class_maps import FUSED_LAYER
from onnx_xcam.images.sources import Named
from onnx_xcam.jobs.earlier import Earlier
from onnx_xcam.jobs.explain_page import EarlierPhotos, JobPage, entry_of, failed_entry, job_page
from onnx_xcam.jobs.file_names import name_parts, places, stems
from onnx_xcam.jobs.page_file import check_page, page_line
from onnx_xcam.jobs.photo_identity import PhotoFiles
from onnx_xcam.jobs.photos import STDIN, without_results
from onnx_xcam.jobs.reporter import Reporter
from onnx_xcam.jobs.result_files import ResultFiles, Writing
from onnx_xcam.jobs.results import add_line, begun_anew, continued, failure_text, lines_in
from onnx_xcam.jobs.run_settings import RunSettings, run_settings
from onnx_xcam.records.explain import ExplainLine, MapRecord
from onnx_xcam.records.lines import VERSION
from onnx_xcam.report import settings_of


@dataclass(frozen=True)
class Page:
    """A Page states the file of the HTML page, and the command and the lines of Python that it shows."""

    file: Path
    command: str
    python: str


@dataclass(frozen=True)
class _Done:
    """A _Done is the outcome of a photo.

    Attributes:
        image: the photo.
        record: its line for results.jsonl.
        results: lines to report as results.
        warnings: warnings to report.
        entry: its entry of the page; empty if no page is written.
    """

    image: Path
    record: ExplainLine
    results: Sequence[str]
    warnings: Sequence[str]
    entry: bytes = b""


CLASSIFICATION = "classification"
"""The task that lines do not state, since those of earlier versions do not."""


class _Objects(TypedDict, total=False):
    """An _Objects holds the fields of a line of a model of objects."""

    task: str
    objects: list[int]
    boxes: list[list[float]] | None
    against: list[int]


class ExplainJob:
    """An ExplainJob is one run of `explain` on some photos, with one output folder."""

    def __init__(
        self,
        images: Mapping[Path, Path],
        folder: Path,
        *,
        writing: Writing,
        resume: bool,
        reporter: Reporter,
        standard_input: bytes | None = None,
    ) -> None:
        """Prepare a run.

        Args:
            images: the photos as they were named, with their resolved paths.
            folder: the folder for all results; `output_folder` has made it.
            writing: what is written for each photo.
            resume: whether to continue the results in the folder.
            reporter: receives what happens.
            standard_input: the bytes of the photo that is called `STDIN`, if there is one.
        """
        self._standard_input = standard_input
        self._images, self._resolved = dict(images), frozenset(images.values())
        self._folder, self._writing, self._resume, self._reporter = folder, writing, resume, reporter
        self._results = folder / "results.jsonl"
        self._result_files: ResultFiles
        self._page: Page | None = None
        self._settings: RunSettings
        self._files = PhotoFiles(self._images, folder)

    def run(self, explainer: Explainer, cells: Cells, page: Page | None = None) -> int:
        """Explain all photos, and return the number of photos that failed.

        Args:
            explainer: the explainer.
            cells: what is explained in each photo, as `Explainer.choose` returns it.
            page: the page to write as well, or None.

        Raises:
            OutputError: a result cannot be written, or the earlier results are those of another run.
            ClassError: the model has no such class.
            KeyboardInterrupt: the user ended the run; the reporter has received how many photos were done.
        """
        self._page = page
        if page is not None:
            check_page(page.file, self._images.values(), explainer.model.files, self._folder)
        self._settings = run_settings(
            explainer.model,
            cells,
            methods=explainer.methods,
            maps=_kind_of_maps(explainer),
            write=" ".join(self._writing.described()),
        )
        earlier = self._earlier(explainer)
        total = len(self._images)
        todo = [image for image, resolved in self._images.items() if resolved not in earlier.finished]
        done, failed = total - len(todo), 0
        earlier_lines = lines_in(self._results)
        try:
            with (
                self._reporter.photos(done, total),
                writing_to(self._results),
                self._results.open("ab") as lines,
                self._paged(explainer, earlier) as shown,
            ):
                for one in self._explained(explainer, cells, todo):
                    failed += one.record["error"] is not None
                    add_line(lines, one.record)
                    if shown is not None:
                        shown.add(one.image, one.entry)
                    done += 1
                    self._report(one)
        except KeyboardInterrupt:
            self._reporter.interrupted(total - len(todo) + lines_in(self._results) - earlier_lines, total)
            raise
        finally:
            for remark in explainer.model.remarks.summed_up():
                self._reporter.warning(remark)
        if page is not None:
            self._reporter.result(page_line(page.file))
        return failed

    def _paged(self, explainer: Explainer, earlier: Earlier) -> AbstractContextManager[JobPage | None]:
        """Open the page for the photos of this run; without a page, the context is None."""
        if self._page is None:
            return nullcontext()
        done = EarlierPhotos({photo: line.text for photo, line in earlier.finished.items()}, self._folder)
        settings = settings_of(explainer.model, explainer.methods, command=self._page.command, python=self._page.python)
        return job_page(self._page.file, settings, explainer, self._images, done)

    def _earlier(self, explainer: Explainer) -> Earlier:
        """Return what an earlier run has done, and choose file names for the other photos that no kept file has."""
        if self._resume:
            self._images = without_results(self._images, self._folder)
            earlier = continued(self._results, self._settings, self._images, self._reporter, given=self._resolved)
        else:
            earlier = begun_anew(self._results, self._settings, self._reporter)
        done = {image for image, resolved in self._images.items() if resolved in earlier.finished}
        parts = name_parts(
            explainer.methods,
            [FUSED_LAYER] if explainer.fuse else explainer.model.shown_layers,
            of_objects=explainer.model.choosable.objects,
        )
        called = list(self._images)
        names = dict(zip(called, stems(called, parts, taken=places(earlier.files), done=done), strict=True))
        self._result_files = ResultFiles(self._folder, self._writing, self._resolved, names)
        return earlier

    def _explained(self, explainer: Explainer, cells: Cells, images: Sequence[Path]) -> Iterator[_Done]:
        """Explain photos, write their files, and yield the outcome of each in order."""

        def source(image: Path) -> Path | Named:
            data = self._standard_input
            return image if image != STDIN or data is None else Named(data, str(STDIN))

        def finish(outcome: Streamed) -> _Done:
            if isinstance(outcome.image, Named):
                outcome = replace(outcome, image=STDIN)
            if outcome.explanation is None:
                return self._failure(explainer, outcome)
            try:
                return self._success(explainer, cells, outcome)
            except ImageError as error:  # too large to be drawn, or for the format of its pictures
                return self._failure(explainer, replace(outcome, explanation=None, error=error))

        return explainer.stream(map(source, self._files.taken(images)), cells, each=finish)

    def _record(self, explainer: Explainer, outcome: Streamed, files: Sequence[Path], error: str | None) -> ExplainLine:
        """Return the line of a photo; if it failed, all fields about its maps are empty."""
        image, made = outcome.image, outcome.explanation
        maps = _maps_of(made) if made else []
        labels, probabilities = (made.labels, made.probabilities) if made else (None, None)
        return {
            "version": VERSION,
            "image": str(image),
            "model": explainer.model.name,
            "layer": explainer.model.shown_layers[0],
            "method": explainer.methods[0],
            "classes": made.classes[0].tolist() if made else [],
            "labels": None if labels is None else labels[0],
            "scores": _numbers(made.scores[0]) if made else [],
            "probabilities": None if probabilities is None else _numbers(probabilities[0]),
            "status": maps[0]["status"] if maps else [],
            "maps": maps,
            "files": [file.as_posix() for file in files],
            "seconds": None if error else round(outcome.seconds, 6),
            "error": error,
            **_of_objects(explainer, made),
            **self._files.in_line(image),
            "settings": self._settings.in_line(),
        }

    def _failure(self, explainer: Explainer, outcome: Streamed) -> _Done:
        """Return the outcome of a photo that failed."""
        image, error = outcome.image, str(outcome.error)
        record = self._record(explainer, outcome, [], error)
        entry = failed_entry(image, error) if self._page else b""
        return _Done(image, record, (), (), entry)

    def _success(self, explainer: Explainer, cells: Cells, outcome: Streamed) -> _Done:
        """Write the files of a photo, and return its outcome."""
        outcome = replace(outcome, explanation=outcome.unwrap().without_missing())
        image, explanations = outcome.image, _by_every_method(outcome)
        files, lines = self._result_files.write(image, explanations)
        record = self._record(explainer, outcome, files, None)
        entry = entry_of(image, explanations) if self._page else b""
        if not record["classes"]:
            lines = [f"{image.name}  {_no_object(explainer, cells)}", *lines]
        return _Done(image, record, lines, explanations[0].map_warnings(), entry)

    def _report(self, done: _Done) -> None:
        """Report the results, the error and the warnings of a photo."""
        for line in done.results:
            self._reporter.result(line)
        if done.record["error"] is not None:
            self._reporter.error(failure_text(str(done.image), done.record["error"]))
        for warning in done.warnings:
            self._reporter.warning(warning)
        self._reporter.photo_done()


def _kind_of_maps(explainer: Explainer) -> str:
    """Return in words what the maps show."""
    shown = "what speaks for the class" if explainer.relu else "what speaks for the class and against it"
    return shown + (f", all layers in one by their {explainer.fuse}" if explainer.fuse else "")


def _by_every_method(outcome: Streamed) -> list[Explanation]:
    """Return the explanation of a photo by each method."""
    explanation = outcome.unwrap()
    return [explanation.by(method) for method in explanation.methods]


def _maps_of(explanation: Explanation) -> list[MapRecord]:
    """Return the records of a photo's maps, one for each method and layer."""
    every = (explanation.by(method) for method in explanation.methods)
    return [
        {"layer": layer, "method": one.method, "status": one.status_of(index)[0].tolist()}
        for one in every
        for index, layer in enumerate(one.layers)
    ]


def _of_objects(explainer: Explainer, explanation: Explanation | None) -> _Objects:
    """Return the fields of a line that say what the model is for, and which objects were explained."""
    fields: _Objects = {"task": explainer.task} if explainer.task != CLASSIFICATION else {}
    if explanation is not None and explanation.objects is not None:
        fields["objects"] = explanation.objects[0].tolist()
        boxes = explanation.boxes
        fields["boxes"] = None if boxes is None else [[round(one, 2) for one in box] for box in boxes[0].tolist()]
    if explanation is not None and explanation.against is not None and (explanation.against >= 0).any():
        fields["against"] = explanation.against[0].tolist()
    return fields


def _no_object(explainer: Explainer, cells: Cells) -> str:
    """Return in words that a photo has none of the objects that were asked for."""
    candidates = explainer.model.loaded.metadata.candidates
    if candidates is None or cells.objects is None or (cells.objects != -1).all():
        return "no such object"
    return f"no object with a probability above {candidates.conf:g}"


def _numbers(values: NDArray[np.float32]) -> list[float | None]:
    """Return values as floats for JSON, with None for NaN and infinity, which JSON does not have."""
    return [value if math.isfinite(value) else None for value in values.astype(float).tolist()]
