"""The command `onnx-xcam evaluate` measures on photos how good the maps of a model are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_xcam.cli.options import (
    ClassOption,
    LayerOption,
    ModelArgument,
    ScoreOption,
    refuse_class_and_top,
)
from onnx_xcam.cli.shared import JobOptions, ObjectOptions, OpeningOptions, spread


@spread
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
            help="A CAM method. May be repeated. Default: xgrad-cam, grad-cam and grad-cam++, which share a run; of a "
            "detector local-xgrad-cam before them.",
            show_default=False,
        ),
    ] = None,
    layer: LayerOption = None,
    class_: ClassOption = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="K",
            min=1,
            help="Measure the maps of the K best classes, or of a detector of the K best objects (default 5).",
            show_default=False,
        ),
    ] = None,
    objects: ObjectOptions,
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
            "Adds the pointing game and the energy inside; of a detector also the energy on other objects.",
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
    opening: OpeningOptions,
    running: JobOptions,
) -> None:
    """Measure how good maps are: the axioms of XGrad-CAM, faithfulness to the model, agreement with what photos show.

    Prints mean ± standard deviation by layer and method, the best marked with *, and writes a line per photo to
    results.jsonl, a row per map to results.csv, and summary.json. A run that was interrupted or killed has lost
    nothing that results.jsonl tells of: --resume does the rest. docs/evaluation.md defines every metric."""
    refuse_class_and_top(class_, top)
    _refuse_contradictions(background, truth, any_class)
    asked = objects.asked(top)
    options = opening.model_options(layer, score)
    from onnx_xcam.evaluation.evaluator import DEFAULT_METHODS
    from onnx_xcam.jobs import evaluate as job

    request = job.EvaluateRequest(
        model=model,
        images=images,
        out=out,
        options=options,
        classes=class_ or None,
        top=top,
        **asked,
        methods=method or DEFAULT_METHODS,
        metrics=metrics.split(","),
        steps=steps,
        background="zero" if background == "zero" else "mean",
        truth=truth,
        any_class=any_class,
        sanity=sanity,
        limit=limit,
        **running.request_fields(context),
    )
    outcome = job.run(request, running.reporter())
    running.fail_for(outcome.failed, outcome.photos, "evaluated")


def _refuse_contradictions(background: str, truth: Path | None, any_class: bool) -> None:
    """Raise a BadParameter if options contradict each other, or the background is unknown."""
    if background not in ("mean", "zero"):
        raise typer.BadParameter(f"{background!r} is neither mean nor zero", param_hint="--background")
    if any_class and truth is None:
        raise typer.BadParameter("--any-class is about --truth; give both")
