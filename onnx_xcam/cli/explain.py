"""onnx-xcam explain: pictures of what made the model say so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_xcam.cams.methods import DEFAULT_METHOD
from onnx_xcam.cli.options import (
    AllowFolderOption,
    ClassOption,
    ExactOption,
    FuseOption,
    HtmlOption,
    InputOption,
    LabelsOption,
    LayerOption,
    MethodsOption,
    ModelArgument,
    PreprocessOption,
    ProbabilitiesOption,
    ProbabilityWay,
    ProviderOption,
    QuietOption,
    RecursiveOption,
    ResumeOption,
    ScoreOption,
    SignedOption,
    ThreadsOption,
    command_line,
    input_values,
    layers_or_auto,
    refuse_class_and_top,
    say,
)
from onnx_xcam.cli.reporter import TerminalReporter


def explain(
    context: typer.Context,
    model: ModelArgument,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE|DIR...", help="Photos, or folders of photos.", show_default=False)
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures and results.jsonl.")
    ] = Path("explanations"),
    class_: ClassOption = None,
    top: Annotated[
        int | None,
        typer.Option("--top", metavar="K", min=1, help="Explain the model's K best classes.", show_default=False),
    ] = None,
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: MethodsOption = None,
    signed: SignedOption = False,
    fuse: FuseOption = None,
    labels: LabelsOption = None,
    preprocess: PreprocessOption = None,
    probabilities: ProbabilitiesOption = ProbabilityWay.AUTO,
    input_: InputOption = None,
    provider: ProviderOption = None,
    threads: ThreadsOption = None,
    exact: ExactOption = False,
    allow_folder: AllowFolderOption = None,
    beside: Annotated[bool, typer.Option("--beside", help="Put the photo beside the explanation.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also write the unscaled maps, as `<stem>.npz`.")] = False,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Write no pictures: results.jsonl and what --raw asks for.")
    ] = False,
    html: HtmlOption = None,
    recursive: RecursiveOption = False,
    resume: ResumeOption = False,
    quiet: QuietOption = False,
) -> None:
    """Explain photos: write `<stem>.<class id>.png` for each photo and class, and a line per photo to
    results.jsonl.

    A run that was interrupted or killed has lost nothing that results.jsonl tells of: --resume does the rest."""
    refuse_class_and_top(class_, top)
    if beside and no_pictures:
        raise typer.BadParameter("give either --beside or --no-pictures, not both")
    if html and resume and not raw:
        raise typer.BadParameter(
            "with --resume, the page takes the maps of photos that are done from what --raw has written; give --raw in "
            "both runs, or leave out --resume",
            param_hint="--html",
        )
    others = input_values(input_)
    from onnx_xcam.explainer import ModelOptions
    from onnx_xcam.jobs import explain as job

    request = job.ExplainRequest(
        model=model,
        images=images,
        out=out,
        options=ModelOptions(
            layers=layers_or_auto(layer),
            score=score,
            preprocess=preprocess,
            labels=labels,
            providers=provider,
            threads=threads,
            inputs=others,
            allow_folders=allow_folder or (),
            probabilities=probabilities.value,
            exact=exact,
        ),
        classes=class_ or None,
        top=top,
        methods=method or [DEFAULT_METHOD],
        relu=not signed,
        fuse=fuse,
        pictures=not no_pictures,
        beside=beside,
        raw=raw,
        html=html,
        command=command_line(context),
        recursive=recursive,
        resume=resume,
    )
    outcome = job.run(request, TerminalReporter(quiet=quiet))
    if outcome.failed:
        say(f"error: {outcome.failed} of {outcome.photos} pictures could not be explained.")
        raise typer.Exit(1)
