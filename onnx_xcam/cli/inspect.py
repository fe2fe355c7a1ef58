"""The command `onnx-xcam inspect` shows the score and the layers of a model that can be explained."""

from __future__ import annotations

from typing import Annotated

import typer

from onnx_xcam.cli.options import AllowFolderOption, ModelArgument, PictureOption


def inspect(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    picture: PictureOption = None,
    allow_folder: AllowFolderOption = None,
) -> None:
    """Show the score tensor, the layers that can be explained, the default one, and operators in the way."""
    from onnx_xcam.surgery import inspect as inspect_model
    from onnx_xcam.text import json_text

    report = inspect_model(model, picture=picture, allow_folders=allow_folder or ())
    typer.echo(json_text(report.to_dict(), indent=2) if as_json else report.text())
