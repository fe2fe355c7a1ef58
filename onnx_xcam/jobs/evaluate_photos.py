"""The photos of `evaluate`: each measured, its line in results.jsonl written, and all of them summed up."""

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
from onnx_xcam.evaluation.evaluator import Evaluator
from onnx_xcam.evaluation.sanity import follows_the_model, sanity, summarised
from onnx_xcam.evaluation.summary import summarise
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
                tabled(self.records(), rows, evaluator.metrics),
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
