"""The command `onnx-xcam explain` writes pictures of what made the model choose a class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.cli.options import (
    ClassOption,
    FuseOption,
    LayerOption,
    MethodsOption,
    ModelArgument,
    ScoreOption,
    SignedOption,
    refuse_class_and_top,
)
from onnx_xcam.cli.shared import JobOptions, ObjectOptions, OpeningOptions, spread, standard_input


@spread
def explain(
    context: typer.Context,
    model: ModelArgument,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE|DIR...", help="Photos, or folders of photos; - is standard input.", show_default=False
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the pictures and results.jsonl.")
    ] = Path("explanations"),
    class_: ClassOption = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="K",
            min=1,
            help="Explain the K best classes, or of a detector the K best objects (default 5).",
            show_default=False,
        ),
    ] = None,
    objects: ObjectOptions,
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: MethodsOption = None,
    signed: SignedOption = False,
    fuse: FuseOption = None,
    opening: OpeningOptions,
    beside: Annotated[bool, typer.Option("--beside", help="Put the photo beside the explanation.")] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Also write the unscaled maps, as `<stem>.npz`.")] = False,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Write no pictures: results.jsonl and what --raw asks for.")
    ] = False,
    running: JobOptions,
) -> None:
    """Explain photos: write `<stem>.<class id>.png` for each photo and class, and a line per photo to
    results.jsonl.

    Of a detector, it writes `<stem>.<rank>-<class id>.png` for each object, and `<stem>.objects.png` for all.

    A run that was interrupted or killed has lost nothing that results.jsonl tells of: --resume does the rest."""
    refuse_class_and_top(class_, top)
    if beside and no_pictures:
        raise typer.BadParameter("give either --beside or --no-pictures, not both")
    if running.html and running.resume and not raw:
        raise typer.BadParameter(
            "with --resume, the page takes the maps of photos that are done from what --raw has written; give --raw in "
            "both runs, or leave out --resume",
            param_hint="--html",
        )
    asked = objects.asked(top)
    options = opening.model_options(layer, score)
    from onnx_xcam.jobs import explain as job

    request = job.ExplainRequest(
        model=model,
        images=images,
        out=out,
        options=options,
        classes=class_ or None,
        top=top,
        **asked,
        methods=method or [AUTO_METHOD],
        relu=not signed,
        fuse=fuse,
        pictures=not no_pictures,
        beside=beside,
        raw=raw,
        standard_input=standard_input() if Path("-") in images else None,
        **running.request_fields(context),
    )
    outcome = job.run(request, running.reporter())
    running.fail_for(outcome.failed, outcome.photos, "explained")
