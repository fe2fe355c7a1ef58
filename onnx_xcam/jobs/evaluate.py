"""The work of `evaluate`: a record per photo in results.jsonl, and what is made of all of them: CSV and summary."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.files import writing_to, written
from onnx_xcam.errors import XcamError
from onnx_xcam.evaluation.evaluator import DEFAULT_METHODS, Evaluator, needs_ablations
from onnx_xcam.evaluation.metrics import DEFAULT_GROUPS, find_metrics
from onnx_xcam.evaluation.perturbation import STEPS, Background
from onnx_xcam.evaluation.sanity import follows_the_model, sanity, summarised
from onnx_xcam.evaluation.summary import summarise
from onnx_xcam.evaluation.truth import load_truth
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.jobs.earlier import Earlier
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.page_file import check_page, page_line
from onnx_xcam.jobs.photo_identity import PhotoFiles
from onnx_xcam.jobs.reporter import Reporter, Silent
from onnx_xcam.jobs.requests import PhotosRequest, tell_assumptions, without_python_warnings
from onnx_xcam.jobs.results import add_line, begun_anew, continued, failure_text, lines_in
from onnx_xcam.jobs.run_settings import RunSettings, digest_of_files, run_settings
from onnx_xcam.records.evaluate import EvaluateLine, EvaluationRecord, SanityFigures, Summary
from onnx_xcam.records.reading import read_evaluated
from onnx_xcam.report import settings_of, write_evaluation
from onnx_xcam.text import json_text, printable

RESULTS, TABLE, SUMMARY = "results.jsonl", "results.csv", "summary.json"


@dataclass(frozen=True)
class Told:
    """What the summary says beside figures: the command, and what is measured in words, as two runs may differ."""

    command: str
    measure: str


class EvaluateJob:
    """One run of `evaluate`: knows the photos and the output folder."""

    def __init__(self, images: Mapping[Path, Path], folder: Path, *, resume: bool, reporter: Reporter) -> None:
        """Prepare a run.

        Args:
            images: the photos as they are called, and where they lie (resolved).
            folder: for all that is written; `output_folder` has made it.
            resume: continue what is there.
            reporter: is told what happens.
        """
        self._images, self._folder, self._resume, self._reporter = dict(images), folder, resume, reporter
        self._results = folder / RESULTS
        self._files = PhotoFiles(self._images, folder)

    def run(self, evaluator: Evaluator, classes: NDArray[np.int64] | None, told: Told) -> tuple[Summary, int]:
        """Measure all photos; the summary of all that the folder has, and how many photos failed in this run.

        What is interrupted leaves the CSV file and the summary of what is done.

        Raises:
            OutputError: a result cannot be written, or the earlier results are those of another run.
            KeyboardInterrupt: after it was said how to go on.
        """
        recorder = evaluator.recorder
        settings = run_settings(recorder.model, classes, methods=recorder.methods, measure=told.measure)
        earlier = self._earlier(settings)
        total = len(self._images)
        todo = [image for image, resolved in self._images.items() if resolved not in earlier.finished]
        done, failed = total - len(todo), 0
        earlier_lines = lines_in(self._results)
        try:
            with (
                self._reporter.photos(done, total),
                writing_to(self._results),
                self._results.open("ab") as lines,
            ):
                for image, record in self._measured(evaluator, todo, classes, settings):
                    add_line(lines, {**record, **self._files.in_line(image)})
                    done += 1
                    if (error := record["error"]) is not None:
                        failed += 1
                        self._reporter.error(failure_text(record["image"], error))
                    self._reporter.photo_done()
        except KeyboardInterrupt:
            self._finish(evaluator, settings, told)
            self._reporter.interrupted(total - len(todo) + lines_in(self._results) - earlier_lines, total)
            raise
        finally:
            for remark in recorder.remarks.summed_up():
                self._reporter.warning(remark)
        return self._finish(evaluator, settings, told), failed

    def _measured(
        self,
        evaluator: Evaluator,
        images: Sequence[Path],
        classes: NDArray[np.int64] | None,
        settings: RunSettings,
    ) -> Iterator[tuple[Path, EvaluationRecord]]:
        found = evaluator.stream(self._files.taken(images), classes, settings.in_line())
        return zip(images, found, strict=True)

    def records(self) -> Iterator[EvaluateLine]:
        """The records that the folder has, one by one."""
        with self._results.open("rb") as lines:
            for line in lines:
                yield read_evaluated(line)

    def check_sanity(
        self,
        model: Path,
        recorder: Recorder,
        summary: Summary,
        *,
        photos: int,
        options: Mapping[str, Any],
    ) -> None:
        """Make the sanity check and add it to the summary, as "sanity": a step for each layer, method and depth.

        Args:
            model: its file.
            recorder: of the run.
            summary: of the run, which is written again.
            photos: how many of those that could be evaluated take part.
            options: those of the Recorder beside its layers and methods.

        Raises:
            XcamError: no photo could be evaluated, or what `sanity` raises.
        """
        folder = self._folder.resolve()
        done = ((folder / record["path"]).resolve() for record in self.records() if record["error"] is None)
        called = {resolved: image for image, resolved in self._images.items()}
        chosen = list(islice((called.get(photo, photo) for photo in done), photos))
        steps: list[SanityFigures] = []
        for layer in recorder.layers:
            self._reporter.note(f"sanity check of layer '{layer}' with {len(chosen)} photos.")
            records = list(sanity(model, chosen, methods=recorder.methods, layer=layer, **options))
            follows = follows_the_model(records)
            steps += [step.figures(layer, follows=follows[step.method]) for step in summarised(records)]
        summary["sanity"] = steps
        self._write_summary(summary)

    def _earlier(self, settings: RunSettings) -> Earlier:
        if not self._resume:
            earlier = begun_anew(self._results, settings, self._reporter)
            for name in (TABLE, SUMMARY):  # they would tell of the run before
                with writing_to(self._folder / name):
                    (self._folder / name).unlink(missing_ok=True)
            return earlier
        return continued(self._results, settings, self._images, self._reporter)

    def _finish(self, evaluator: Evaluator, settings: RunSettings, told: Told) -> Summary:
        """Make the CSV file and the summary of all records, in one pass over them."""
        recorder, table = evaluator.recorder, self._folder / TABLE
        with written(table) as file:
            rows = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
            summary = summarise(
                _tabled(self.records(), rows, evaluator.metrics),
                model=recorder.name,
                layers=recorder.layers,
                methods=recorder.methods,
                metrics=evaluator.metrics,
                confidence=recorder.confidence_kind,
                notes=list(evaluator.notes),
                warnings=list(recorder.warnings),
                settings=settings.in_summary(),
                command=told.command,
            )
        self._write_summary(summary)
        return summary

    def _write_summary(self, summary: Summary) -> None:
        path = self._folder / SUMMARY
        with written(path) as file:
            file.write((json_text(summary, indent=1) + "\n").encode("utf-8"))


def write_page(file: Path, recorder: Recorder, told: Told, summary: Summary, records: Iterator[EvaluateLine]) -> str:
    """Write the page of an evaluation; a line that says where it is.

    Raises:
        OutputError: it cannot be written.
    """
    settings = settings_of(recorder.model, recorder.methods, command=told.command, facts=[("Measured", told.measure)])
    write_evaluation(file, summary, records, settings)
    return page_line(file)


_COLUMNS = ("image", "layer", "method", "class", "label", "score", "confidence")


def _tabled(records: Iterator[EvaluateLine], rows: Any, metrics: tuple[str, ...]) -> Iterator[EvaluateLine]:
    """The records, each written to a CSV table on the way: a row per layer, method and class, or one with the error."""
    rows.writerow([*_COLUMNS, *metrics, "error"])
    for record in records:
        ids = record["classes"]
        labels = record["labels"] or [None] * len(ids)
        of_class = dict(zip(ids, zip(labels, record["scores"], record["confidences"], strict=True), strict=True))
        for result in record["results"]:
            values = (result["metrics"][name] for name in metrics)
            named = record["image"], result["layer"], result["method"], result["class"]
            rows.writerow([*map(_cell, (*named, *of_class[result["class"]], *values)), ""])
        if record["error"] is not None:
            blank = [""] * (len(_COLUMNS) - 1 + len(metrics))
            rows.writerow([_cell(record["image"]), *blank, _cell(record["error"])])
        yield record


def _cell(value: Any) -> Any:
    """Text on one line that UTF-8 can hold; what a spreadsheet would run as a formula has an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(PhotosRequest):
    """States what `evaluate.run` measures.

    Attributes:
        out: the folder for results.jsonl, results.csv and summary.json.
        methods: the CAM methods.
        metrics: names of metrics or of their groups.
        steps: of the curves of insertion and deletion.
        background: what stands where a pixel is away.
        truth: masks or boxes of what the photos show, as `load_truth` reads them; adds the metrics of that group.
        any_class: count every object of these, whatever its class is called.
        sanity: also make the sanity check, with so many photos.
        limit: take only so many photos, the first ones.

    Raises:
        XcamError: what is asked for contradicts itself.
    """

    out: Path = Path("evaluation")
    methods: Sequence[str] = DEFAULT_METHODS
    metrics: Sequence[str] = DEFAULT_GROUPS
    steps: int = STEPS
    background: Background = "mean"
    truth: Path | None = None
    any_class: bool = False
    sanity: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.any_class and self.truth is None:
            raise XcamError("Objects of any class are counted only where the truth is given.")


@dataclass(frozen=True)
class EvaluateOutcome:
    """What became of a job.

    Attributes:
        summary: of all that the folder has, as summary.json has it.
        photos: how many there were, those among them that an earlier job had done.
        failed: how many of them could not be evaluated now; results.jsonl tells why.
    """

    summary: Summary
    photos: int
    failed: int


def run(request: EvaluateRequest, reporter: Reporter | None = None) -> EvaluateOutcome:
    """Measure how good maps are, on photos: write results.jsonl, results.csv, summary.json, and the page.

    A photo that cannot be evaluated does not end the job. What ends it, or the process, loses nothing that
    results.jsonl tells of: the same request with `resume` does the rest.

    Args:
        request: what to measure.
        reporter: is told what happens, in the calling thread; None for nobody.

    Raises:
        XcamError: the model cannot be opened, the results cannot be written, or the earlier ones are another job's.
        KeyboardInterrupt: after the reporter was told how far the job came.
    """
    reporter = reporter or Silent()
    metrics = find_metrics(request.metrics, truth=request.truth is not None)
    photos = dict(islice(request.find_photos().items(), request.limit))
    with output_folder(request.out, reporter), without_python_warnings():
        job = EvaluateJob(photos, request.out, resume=request.resume, reporter=reporter)
        evaluator = _evaluator(request, metrics, photos)
        recorder = evaluator.recorder
        told = Told(request.command, _measured(request, metrics))
        tell_assumptions(reporter, evaluator.notes, recorder.warnings)
        if request.html is not None:
            check_page(request.html, photos.values(), recorder.files, request.out)
        summary, failed = job.run(evaluator, recorder.choose(request.classes, request.top), told)
        reporter.summary(summary)
        if request.sanity:
            job.check_sanity(request.model, recorder, summary, photos=request.sanity, options=_for_sanity(request))
            reporter.sanity(summary["sanity"])
        if request.html is not None:
            reporter.result(write_page(request.html, recorder, told, summary, job.records()))
    found = f"{summary['maps']} maps of each row, of {summary['images']} photos"
    reporter.note(f"{found}; all of it is in '{request.out}'.")
    return EvaluateOutcome(summary, len(photos), failed)


def _measured(request: EvaluateRequest, metrics: Sequence[str]) -> str:
    """What is measured, in words: what is to be the same in a job that is continued."""
    truth = "" if request.truth is None else f", truth {digest_of_files(request.truth)}"
    any_class = " of any class" if request.any_class else ""
    return f"{','.join(metrics)} in {request.steps} steps, background {request.background}{truth}{any_class}"


def _evaluator(request: EvaluateRequest, metrics: Sequence[str], photos: Mapping[Path, Path]) -> Evaluator:
    """The model opened for what is measured, with what the photos show."""
    opened = request.options.arguments()
    recorder = Recorder(request.model, methods=request.methods, ablations=needs_ablations(metrics), **opened)
    truth = None
    if request.truth is not None:
        truth = load_truth(
            request.truth,
            photos,
            labels=recorder.labels,
            any_class=request.any_class,
            class_count=recorder.class_count,
        )
    return Evaluator(recorder, metrics, steps=request.steps, background=request.background, truth=truth)


def _for_sanity(request: EvaluateRequest) -> dict[str, Any]:
    """The options of the sanity check, which opens models of its own: for each layer, without probabilities."""
    opened = request.options.arguments()
    return {name: value for name, value in opened.items() if name not in ("layers", "probabilities")}
