"""onnx-xcam explain: pictures of what made the model say so."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    say_all,
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
    import warnings

    from onnx_xcam.explainer import Explainer, XcamWarning
    from onnx_xcam.jobs.explain import ExplainJob, Page, Writing
    from onnx_xcam.jobs.output_folder import output_folder
    from onnx_xcam.jobs.photos import find_pictures, refuse_mixed
    from onnx_xcam.report import python_call

    reporter = TerminalReporter(quiet=quiet)
    if resume:
        refuse_mixed(images, out)
    found = find_pictures(images, recursive=recursive, leave_out=out)
    writing = Writing(pictures=not no_pictures, raw=raw, beside=beside)
    context.with_resource(output_folder(out, reporter))
    job = ExplainJob(found, out, writing=writing, resume=resume, reporter=reporter)
    options: dict[str, Any] = {
        "layers": layers_or_auto(layer),
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
    methods = method or [DEFAULT_METHOD]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XcamWarning)  # said below, without a line of source code
        explainer = Explainer(model, method=methods, relu=not signed, fuse=fuse, **options)
        if not quiet:
            say_all("note", [note for note in explainer.notes if note not in explainer.warnings])
        say_all("warning", explainer.warnings)
        told = {**options, "fuse": fuse, **({"relu": False} if signed else {})}
        python = python_call(model, next(iter(found)), methods, told, {"classes": class_, "top": top})
        page = Page(html, command_line(context), python) if html else None
        failed = job.run(explainer, explainer.choose(class_ or None, top), page)
    if failed:
        say(f"error: {failed} of {len(found)} pictures could not be explained.")
        raise typer.Exit(1)
