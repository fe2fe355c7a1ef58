"""This module has the job `evaluate` as a function: it measures on many photos how good a model's maps are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from onnx_xcam.errors import XcamError
from onnx_xcam.evaluation.evaluator import DEFAULT_METHODS, Evaluator, needs_ablations
from onnx_xcam.evaluation.metrics import DEFAULT_GROUPS, find_metrics
from onnx_xcam.evaluation.perturbation import STEPS, Background
from onnx_xcam.evaluation.truth import load_truth
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.jobs.evaluate_photos import EvaluateJob, RunDescription, write_page
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.page_file import check_page
from onnx_xcam.jobs.photos import STANDARD_INPUT
from onnx_xcam.jobs.reporter import Reporter, Silent
from onnx_xcam.jobs.requests import PhotosRequest, tell_assumptions, without_python_warnings
from onnx_xcam.jobs.run_settings import digest_of_files
from onnx_xcam.records.evaluate import ObjectCounts, Summary


@dataclass(frozen=True, kw_only=True)
class EvaluateRequest(PhotosRequest):
    """An EvaluateRequest states what `evaluate.run` measures.

    Attributes:
        out: the folder for results.jsonl, results.csv and summary.json.
        methods: the CAM methods.
        metrics: names of metrics or of their groups.
        steps: the number of steps of the curves of insertion and deletion.
        background: what replaces a pixel that is removed.
        truth: a file or folder with masks or boxes of the objects in the photos, as `load_truth` reads it; it adds the
            metrics of its group.
        any_class: whether every object of the truth counts, whatever its class.
        sanity: the number of photos for the sanity check; 0 for no check.
        limit: the number of photos to take, the first ones; None for all.

    Raises:
        XcamError: two fields contradict each other.
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
        if STANDARD_INPUT in self.images:
            raise XcamError(
                "The photos of an evaluation are read again later; save the one from standard input as a file."
            )


@dataclass(frozen=True)
class EvaluateOutcome:
    """An EvaluateOutcome says how a job ended.

    Attributes:
        summary: the summary of all results in the folder, as summary.json has it.
        photos: the number of photos, with those that an earlier job had done.
        failed: the number of photos that could not be evaluated in this job; results.jsonl says why.
    """

    summary: Summary
    photos: int
    failed: int


def run(request: EvaluateRequest, reporter: Reporter | None = None) -> EvaluateOutcome:
    """Measure on photos how good maps are, and write results.jsonl, results.csv, summary.json and the page.

    A photo that cannot be evaluated does not end the job. If the job or the process is ended, every photo with a line
    in results.jsonl stays done: the same request with `resume` does the rest.

    Args:
        request: what to measure.
        reporter: receives what happens, in the calling thread; None to show nothing.

    Raises:
        XcamError: the model cannot be opened, the results cannot be written, or earlier results are of another job.
        KeyboardInterrupt: the user ended the job; the reporter has received how many photos were done.
    """
    reporter = reporter or Silent()
    wanted = find_metrics(request.metrics, truth=request.truth is not None)
    photos = dict(islice(request.find_photos().items(), request.limit))
    with output_folder(request.out, reporter), without_python_warnings():
        job = EvaluateJob(photos, request.out, resume=request.resume, reporter=reporter)
        evaluator = _evaluator(request, needs_ablations(wanted), photos)
        recorder = evaluator.recorder
        description = RunDescription(request.command, _measured(request, evaluator.metrics))
        tell_assumptions(reporter, evaluator.notes, recorder.warnings)
        if request.html is not None:
            check_page(request.html, photos.values(), recorder.files, request.out)
        summary, failed = job.run(evaluator, request.cells(recorder.model), description)
        reporter.summary(summary)
        if request.sanity:
            job.check_sanity(request.model, recorder, summary, photos=request.sanity, options=_for_sanity(request))
            reporter.sanity(summary["sanity"])
        if request.html is not None:
            reporter.result(write_page(request.html, recorder, description, summary, job.records()))
    count = f"{summary['maps']} maps of each row, of {summary['images']} photos"
    if (objects := summary.get("objects")) is not None:
        reporter.note(_counted(objects, request.truth is not None))
    reporter.note(f"{count}; all of it is in '{request.out}'.")
    return EvaluateOutcome(summary, len(photos), failed)


def _measured(request: EvaluateRequest, metrics: Sequence[str]) -> str:
    """Return in words what is measured, which must be the same in a job that is continued."""
    truth = "" if request.truth is None else f", truth {digest_of_files(request.truth)}"
    any_class = " of any class" if request.any_class else ""
    return f"{','.join(metrics)} in {request.steps} steps, background {request.background}{truth}{any_class}"


def _counted(objects: ObjectCounts, truth: bool) -> str:
    """Return a sentence on how many objects were explained, and how many of these have no truth."""
    counts = [f"{objects['explained']} explained", f"{objects['photos_without']} photos without any"]
    if truth:
        counts.append(f"{objects['not_annotated']} not in the truth, which have no metrics of truth")
    return f"Objects: {'; '.join(counts)}."


def _evaluator(request: EvaluateRequest, ablations: bool, photos: Mapping[Path, Path]) -> Evaluator:
    """Open the model for the metrics, and read the truth about the photos if it is given."""
    opened = request.options.arguments()
    opened["contrast"] = opened["contrast"] or request.against is not None
    recorder = Recorder(request.model, methods=request.methods, ablations=ablations, **opened)
    truth = None
    if request.truth is not None:
        truth = load_truth(
            request.truth,
            photos,
            labels=recorder.labels,
            any_class=request.any_class,
            class_count=recorder.class_count,
        )
    return Evaluator(recorder, request.metrics, steps=request.steps, background=request.background, truth=truth)


def _for_sanity(request: EvaluateRequest) -> dict[str, Any]:
    """Return the options of the sanity check, which opens a model for each layer and needs no probabilities."""
    opened = request.options.arguments()
    return {name: value for name, value in opened.items() if name not in ("layers", "probabilities", "contrast")}
