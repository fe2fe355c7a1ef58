"""The command `onnx-xcam check` proves on a model that outputs are unchanged and gradients and maps are right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.cli.options import (
    AllowFolderOption,
    EmittedMethodOption,
    InputOption,
    LayerOption,
    ModelArgument,
    PreprocessOption,
    ScoreOption,
    input_values,
    layers_or_auto,
)


def check(
    model: ModelArgument,
    image: Annotated[
        Path | None, typer.Argument(metavar="IMAGE", help="A photo. Default: random values.", show_default=False)
    ] = None,
    *,
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: EmittedMethodOption = AUTO_METHOD,
    preprocess: PreprocessOption = None,
    input_: InputOption = None,
    allow_folder: AllowFolderOption = None,
) -> None:
    """Check on this model that its outputs are unchanged and that gradients and maps are right."""
    import warnings

    import numpy as np

    from onnx_xcam.explainer import Explainer, XcamWarning
    from onnx_xcam.verification.check import check as check_model

    layers, others, folders = layers_or_auto(layer), input_values(input_), allow_folder or ()
    batch = None
    if image is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", XcamWarning)  # the assumptions about colour do not matter to the proof
            explainer = Explainer(
                model,
                layers,
                score,
                method,
                preprocess=preprocess,
                providers="cpu",
                inputs=others,
                allow_folders=folders,
            )
        batch = np.stack([explainer.prepare(image).item] * (explainer.batch or 1))
    report = check_model(model, batch, layers=layers, score=score, method=method, inputs=others, allow_folders=folders)
    typer.echo(report.text())
    if not report.passed:
        raise typer.Exit(1)
