"""onnx-xcam evaluate: how good the maps of a model are, on photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_xcam.cli.options import (
    AllowFolderOption,
    ClassOption,
    ExactOption,
    HtmlOption,
    InputOption,
    LabelsOption,
    LayerOption,
    ModelArgument,
    PreprocessOption,
    ProbabilitiesOption,
    ProbabilityWay,
    ProviderOption,
    QuietOption,
    RecursiveOption,
    ResumeOption,
    ScoreOption,
    ThreadsOption,
    command_line,
    input_values,
    layers_or_auto,
    refuse_class_and_top,
    say,
    say_all,
)
from onnx_xcam.cli.reporter import TerminalReporter


def evaluate(
    context: typer.Context,
    model: ModelArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="DIR|IMAGE...", help="Folders of photos, or photos.", show_default=False)
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for results.jsonl, results.csv and summary.json.")
    ] = Path("evaluation"),
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help="A CAM method. May be repeated. Default: xgrad-cam, grad-cam and grad-cam++, which share a run.",
            show_default=False,
        ),
    ] = None,
    layer: LayerOption = None,
    class_: ClassOption = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="K", min=1, help="Measure the maps of the K best classes.", show_default=False),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            "--metrics",
            metavar="NAMES",
            help="What to measure: groups (axioms, faithfulness) or single metrics such as deletion,drop, with commas "
            "between them.",
        ),
    ] = "axioms,faithfulness",
    steps: Annotated[
        int, typer.Option("--steps", metavar="N", min=2, help="Steps of the curves of insertion and deletion.")
    ] = 16,
    background: Annotated[
        str,
        typer.Option(
            "--background",
            metavar="mean|zero",
            help="What stands where a pixel is away: the photo's own mean colour, or the zero of the model's input.",
        ),
    ] = "mean",
    truth: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            metavar="DIR|FILE",
            help="Masks or boxes of what the photos show: a folder of masks, COCO or plain JSON, Pascal VOC, CSV. "
            "Adds the pointing game and the energy inside.",
            show_default=False,
        ),
    ] = None,
    any_class: Annotated[
        bool, typer.Option("--any-class", help="With --truth, count every object, whatever its class is called.")
    ] = False,
    sanity: Annotated[
        int,
        typer.Option(
            "--sanity",
            metavar="N",
            min=0,
            help="Also the sanity check, with the first N photos: the model's weights are randomised step by step, and "
            "the maps must change.",
        ),
    ] = 0,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N photos.", show_default=False)
    ] = None,
    score: ScoreOption = "auto",
    labels: LabelsOption = None,
    preprocess: PreprocessOption = None,
    probabilities: ProbabilitiesOption = ProbabilityWay.AUTO,
    input_: InputOption = None,
    provider: ProviderOption = None,
    threads: ThreadsOption = None,
    exact: ExactOption = False,
    allow_folder: AllowFolderOption = None,
    html: HtmlOption = None,
    recursive: RecursiveOption = False,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure how good maps are: the axioms of XGrad-CAM, faithfulness to the model, agreement with what photos show.

    Prints mean ± standard deviation by layer and method, the best marked with *, and writes a line per photo to
    results.jsonl, a row per map to results.csv, and summary.json. A run that was interrupted or killed has lost
    nothing that results.jsonl tells of: --resume does the rest. docs/evaluation.md defines every metric."""
    refuse_class_and_top(class_, top)
    _refuse_contradictions(background, truth, any_class)
    others = input_values(input_)
    import warnings

    from onnx_xcam.cli.evaluate_table import print_sanity, print_summary
    from onnx_xcam.evaluation.evaluator import DEFAULT_METHODS, Evaluator, needs_ablations
    from onnx_xcam.evaluation.metrics import find_metrics
    from onnx_xcam.evaluation.truth import load_truth
    from onnx_xcam.explainer import XcamWarning
    from onnx_xcam.explainer.recorder import Recorder
    from onnx_xcam.jobs.evaluate import EvaluateJob, Told, write_page
    from onnx_xcam.jobs.output_folder import output_folder
    from onnx_xcam.jobs.page_file import check_page
    from onnx_xcam.jobs.photos import find_pictures, refuse_mixed

    names = find_metrics(metrics.split(","), truth=truth is not None)
    reporter = TerminalReporter(quiet=quiet)
    if resume:
        refuse_mixed(images, out)
    found = dict(list(find_pictures(images, recursive=recursive, leave_out=out).items())[:limit])
    context.with_resource(output_folder(out, reporter))
    job = EvaluateJob(found, out, resume=resume, reporter=reporter)
    options: dict[str, Any] = {
        "score": score,
        "preprocess": preprocess,
        "labels": labels,
        "providers": provider,
        "threads": threads,
        "inputs": others,
        "allow_folders": allow_folder or (),
        "probabilities": probabilities.value,
        **({"exact": True} if exact else {}),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XcamWarning)  # said below, without a line of source code
        recorder = Recorder(
            model,
            layers_or_auto(layer),
            methods=method or DEFAULT_METHODS,
            ablations=needs_ablations(names),
            **options,
        )
        known = (
            load_truth(truth, found, labels=recorder.labels, any_class=any_class, class_count=recorder.class_count)
            if truth is not None
            else None
        )
        evaluator = Evaluator(
            recorder, names, steps=steps, background="zero" if background == "zero" else "mean", truth=known
        )
        if not quiet:
            say_all("note", [note for note in evaluator.notes if note not in recorder.warnings])
        say_all("warning", recorder.warnings)
        measure = f"{','.join(names)} in {steps} steps, background {background}{_told(truth, any_class)}"
        if html is not None:
            check_page(html, found.values(), recorder.files, out)
        told = Told(command_line(context), measure)
        summary, failed = job.run(evaluator, recorder.choose(class_ or None, top), told)
        print_summary(summary)
        if sanity:
            of_sanity = {name: value for name, value in options.items() if name != "probabilities"}
            job.check_sanity(model, recorder, summary, photos=sanity, options=of_sanity)
            print_sanity(summary["sanity"])
    if html is not None:
        reporter.result(write_page(html, recorder, told, summary, job.records()))
    if not quiet:
        say(f"note: {summary['maps']} maps of each row, of {summary['images']} photos; all of it is in '{out}'.")
    if failed:
        say(f"error: {failed} of {len(found)} pictures could not be evaluated.")
        raise typer.Exit(1)


def _refuse_contradictions(background: str, truth: Path | None, any_class: bool) -> None:
    if background not in ("mean", "zero"):
        raise typer.BadParameter(f"{background!r} is neither mean nor zero", param_hint="--background")
    if any_class and truth is None:
        raise typer.BadParameter("--any-class is about --truth; give both")


def _told(truth: Path | None, any_class: bool) -> str:
    """What is to be the same of --truth in a run that is continued, in words."""
    from onnx_xcam.jobs.run_settings import digest_of_files

    return "" if truth is None else f", truth {digest_of_files(truth)}{' of any class' if any_class else ''}"
