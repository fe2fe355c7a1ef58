"""This module measures the photos of `evaluate`, writes a line for each to results.jsonl, and sums them up."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from onnx_xcam.common.files import writing_to, written
from onnx_xcam.evaluation.evaluator import Evaluator
from onnx_xcam.evaluation.sanity import follows_the_model, sanity, summarised
from onnx_xcam.evaluation.summary import summarise
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.jobs.earlier import Earlier
from onnx_xcam.jobs.page_file import page_line
from onnx_xcam.jobs.photo_identity import PhotoFiles
from onnx_xcam.jobs.reporter import Reporter
from onnx_xcam.jobs.results import add_line, begun_anew, continued, failure_text, lines_in
from onnx_xcam.jobs.results_csv import tabled
from onnx_xcam.jobs.run_settings import RunSettings, run_settings
from onnx_xcam.records.evaluate import EvaluateLine, EvaluationRecord, SanityFigures, Summary
from onnx_xcam.records.reading import read_evaluated
from onnx_xcam.report import settings_of, write_evaluation
from onnx_xcam.text import json_text

RESULTS, TABLE, SUMMARY = "results.jsonl", "results.csv", "summary.json"


@dataclass(frozen=True)
class RunDescription:
    """A RunDescription says in words what a run does, for the summary and the page.

    Attributes:
        command: the command line, if there is one.
        measure: what is measured; a run that is continued must measure the same.
    """

    command: str
    measure: str


class EvaluateJob:
    """An EvaluateJob is one run of `evaluate` on some photos, with one output folder."""

    def __init__(self, images: Mapping[Path, Path], folder: Path, *, resume: bool, reporter: Reporter) -> None:
        """Prepare a run.

        Args:
            images: the photos as they were named, with their resolved paths.
            folder: the folder for all results; `output_folder` has made it.
            resume: whether to continue the results in the folder.
            reporter: receives what happens.
        """
        self._images, self._folder, self._resume, self._reporter = dict(images), folder, resume, reporter
        self._results = folder / RESULTS
        self._files = PhotoFiles(self._images, folder)

    def run(self, evaluator: Evaluator, cells: Cells, description: RunDescription) -> tuple[Summary, int]:
        """Measure all photos; return the summary of all results in the folder, and how many photos failed in this run.

        A run that is interrupted still writes the CSV file and the summary of the photos that are done.

        Raises:
            OutputError: a result cannot be written, or the earlier results are those of another run.
            KeyboardInterrupt: the user ended the run; the reporter has received how many photos were done.
        """
        recorder = evaluator.recorder
        settings = run_settings(recorder.model, cells, methods=recorder.methods, measure=description.measure)
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
                for image, record in self._measured(evaluator, todo, cells, settings):
                    add_line(lines, {**record, **self._files.in_line(image)})
                    done += 1
                    if (error := record["error"]) is not None:
                        failed += 1
                        self._reporter.error(failure_text(record["image"], error))
                    self._reporter.photo_done()
        except KeyboardInterrupt:
            self._finish(evaluator, settings, description)
            self._reporter.interrupted(total - len(todo) + lines_in(self._results) - earlier_lines, total)
            raise
        finally:
            for remark in recorder.remarks.summed_up():
                self._reporter.warning(remark)
        return self._finish(evaluator, settings, description), failed

    def _measured(
        self,
        evaluator: Evaluator,
        images: Sequence[Path],
        cells: Cells,
        settings: RunSettings,
    ) -> Iterator[tuple[Path, EvaluationRecord]]:
        """Measure photos, and yield each with its record."""
        records = evaluator.stream(self._files.taken(images), cells, settings.in_line())
        return zip(images, records, strict=True)

    def records(self) -> Iterator[EvaluateLine]:
        """Yield the records of results.jsonl, one by one."""
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
        """Make the sanity check, and add it to the summary as "sanity": a step for each layer, method and depth.

        Args:
            model: the model's file.
            recorder: the recorder of the run.
            summary: the summary of the run, which is extended and written again.
            photos: the number of photos that take part, the first ones without an error.
            options: further options of the recorder, beside its layers and methods.

        Raises:
            XcamError: no photo could be evaluated, or as `sanity`.
        """
        folder = self._folder.resolve()
        done = ((folder / record["path"]).resolve() for record in self.records() if record["error"] is None)
        called = {resolved: image for image, resolved in self._images.items()}
        chosen = list(islice((called.get(photo, photo) for photo in done), photos))
        steps: list[SanityFigures] = []
        shown, layers = recorder.model.shown_layers, recorder.layers
        for name, layer in zip(shown, layers if shown == layers else ["auto"], strict=True):
            self._reporter.note(f"sanity check of layer '{name}' with {len(chosen)} photos.")
            records = list(sanity(model, chosen, methods=recorder.methods, layer=layer, **options))
            follows = follows_the_model(records)
            steps += [step.figures(name, follows=follows[step.method]) for step in summarised(records)]
        summary["sanity"] = steps
        self._write_summary(summary)

    def _earlier(self, settings: RunSettings) -> Earlier:
        """Return what an earlier run has done if it is to be continued; else remove its results."""
        if not self._resume:
            earlier = begun_anew(self._results, settings, self._reporter)
            for name in (TABLE, SUMMARY):  # they describe the run before
                with writing_to(self._folder / name):
                    (self._folder / name).unlink(missing_ok=True)
            return earlier
        return continued(self._results, settings, self._images, self._reporter)

    def _finish(self, evaluator: Evaluator, settings: RunSettings, description: RunDescription) -> Summary:
        """Write the CSV file and the summary of all records, in one pass over them, and return the summary."""
        recorder, table = evaluator.recorder, self._folder / TABLE
        with written(table) as file:
            rows = csv.writer(codecs.getwriter("utf-8")(file), lineterminator="\n")
            summary = summarise(
                tabled(self.records(), rows, evaluator.metrics, of_objects=recorder.model.choosable.objects),
                model=recorder.name,
                layers=recorder.model.shown_layers,
                methods=recorder.methods,
                metrics=evaluator.metrics,
                confidence=recorder.confidence_kind,
                notes=list(evaluator.notes),
                warnings=list(recorder.warnings),
                settings=settings.in_summary(),
                command=description.command,
                baselines=evaluator.baselines,
                of_objects=recorder.model.choosable.objects,
            )
        self._write_summary(summary)
        return summary

    def _write_summary(self, summary: Summary) -> None:
        """Write summary.json."""
        path = self._folder / SUMMARY
        with written(path) as file:
            file.write((json_text(summary, indent=1) + "\n").encode("utf-8"))


def write_page(
    file: Path, recorder: Recorder, description: RunDescription, summary: Summary, records: Iterator[EvaluateLine]
) -> str:
    """Write the page of an evaluation, and return a line that says where it is.

    Raises:
        OutputError: the page cannot be written.
    """
    settings = settings_of(
        recorder.model, recorder.methods, command=description.command, facts=[("Measured", description.measure)]
    )
    write_evaluation(file, summary, records, settings)
    return page_line(file)
