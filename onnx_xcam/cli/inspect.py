"""The command `onnx-xcam inspect` shows what can be explained in a model, and how pictures become its input."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_xcam.cli.options import (
    AllowFolderOption,
    ConfOption,
    IouOption,
    LabelsOption,
    ModelArgument,
    PictureOption,
    PreprocessOption,
    ScoreOption,
    TaskOption,
)


def inspect(  # noqa: PLR0917  - typer reads the options off the signature
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    picture: PictureOption = None,
    labels: LabelsOption = None,
    preprocess: PreprocessOption = None,
    allow_folder: AllowFolderOption = None,
    score: ScoreOption = "auto",
    task: TaskOption = "auto",
    conf: ConfOption = None,
    iou: IouOption = None,
) -> None:
    """Show the score, the layers that can be explained, and who says how pictures become the model's input."""
    from onnx_xcam.inspection import inspect as inspect_model
    from onnx_xcam.text import json_text

    report = inspect_model(
        model,
        picture=picture,
        preprocess=preprocess,
        labels=labels,
        allow_folders=allow_folder or (),
        score=score,
        task=task,
        conf=conf,
        iou=iou,
    )
    typer.echo(json_text(report.to_dict(), indent=2) if as_json else report.text())
