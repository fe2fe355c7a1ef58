"""The job `evaluate`: how good a model's maps are, measured on many photos, as a function."""

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
from onnx_xcam.jobs.evaluate_photos import EvaluateJob, Told, write_page
from onnx_xcam.jobs.output_folder import output_folder
from onnx_xcam.jobs.page_file import check_page
from onnx_xcam.jobs.reporter import Reporter, Silent
from onnx_xcam.jobs.requests import PhotosRequest, tell_assumptions, without_python_warnings
from onnx_xcam.jobs.run_settings import digest_of_files
from onnx_xcam.records.evaluate import Summary


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
