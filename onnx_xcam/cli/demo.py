"""The command `onnx-xcam demo` writes a web page that explains photos with the model, in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.cli.options import (
    AllowFolderOption,
    ConfOption,
    EmittedMethodOption,
    InputOption,
    IouOption,
    LabelsOption,
    LayerOption,
    ModelArgument,
    PreprocessOption,
    ProbabilitiesOption,
    ProbabilityWay,
    ScoreOption,
    TaskOption,
    input_values,
    layers_or_auto,
    say,
    say_all,
)


def demo(
    model: ModelArgument,
    *,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the page, new or empty.", show_default=False),
    ],
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: EmittedMethodOption = AUTO_METHOD,
    task: TaskOption = "auto",
    conf: ConfOption = None,
    iou: IouOption = None,
    labels: LabelsOption = None,
    preprocess: PreprocessOption = None,
    probabilities: ProbabilitiesOption = ProbabilityWay.AUTO,
    input_: InputOption = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            metavar="DIR",
            help="Where ONNX Runtime for browsers is: the npm package onnxruntime-web, or a folder in which npm "
            "installed it. Default: the files in this installation.",
            show_default=False,
        ),
    ] = None,
    allow_folder: AllowFolderOption = None,
) -> None:
    """Write a web page that explains photos with the model, in the browser: a folder for any static web server."""
    if layer and len(layer) > 1:
        raise typer.BadParameter("the page shows one layer; give one", param_hint="--layer")
    others = input_values(input_)
    from onnx_xcam.demo import write_page

    page = write_page(
        model,
        out,
        layers=layers_or_auto(layer),
        score=score,
        method=method,
        preprocess=preprocess,
        labels=labels,
        inputs=others,
        runtime=runtime,
        allow_folders=allow_folder or (),
        probabilities=probabilities.value,
        task=task,
        conf=conf,
        iou=iou,
    )
    say_all("note", page.notes)
    say_all("warning", page.warnings)
    say(f"To see it: python -m http.server --directory {out}, then open http://localhost:8000")
    typer.echo(str(page.folder))
