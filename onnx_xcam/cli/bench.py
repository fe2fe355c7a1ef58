"""The command `onnx-xcam bench` measures what an explanation costs, against a plain prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.cli.options import (
    AllowFolderOption,
    EmittedMethodOption,
    InputOption,
    LayerOption,
    ModelArgument,
    ProviderOption,
    ScoreOption,
    input_values,
    layers_or_auto,
    say,
)


def bench(
    model: ModelArgument,
    *,
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: EmittedMethodOption = AUTO_METHOD,
    batch: Annotated[
        str,
        typer.Option(
            "--batch", metavar="N,...", help="Images of a run; a model exported for a fixed number takes that."
        ),
    ] = "1,8",
    classes: Annotated[
        str,
        typer.Option(
            "--classes",
            metavar="K,...",
            help="How many classes to explain; more than there are: all of them. Of a detector: objects.",
        ),
    ] = "1,10,1000",
    threads: Annotated[
        str | None,
        typer.Option(
            "--threads", metavar="T,...", help="Threads of one operator. Default: all cores.", show_default=False
        ),
    ] = None,
    provider: ProviderOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0, help="To spend on each figure, about.")
    ] = 5.0,
    input_: InputOption = None,
    allow_folder: AllowFolderOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Time runs of the instrumented model, which gives the map alone, against runs of MODEL itself, in turns, on random
    numbers, and compare their peak memory."""
    batches, counts = _numbers(batch, "--batch"), _numbers(classes, "--classes")
    cores = _numbers(threads, "--threads") if threads is not None else [None]
    others = input_values(input_)
    from onnx_xcam.benchmark.model import bench as bench_model
    from onnx_xcam.text import json_text

    report = bench_model(
        model,
        layers=layers_or_auto(layer),
        score=score,
        method=method,
        batches=batches,
        classes=counts,
        threads=cores,
        providers=provider,
        seconds=seconds,
        inputs=others,
        allow_folders=allow_folder or (),
        progress=say,
    )
    typer.echo(json_text(report.to_dict(), indent=2) if as_json else report.text())


def _numbers(text: str, option: str) -> Sequence[int]:
    """Return the whole numbers of a list with commas, or raise a BadParameter unless all are at least 1."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise typer.BadParameter(f"{text!r} is no list of numbers from 1 on, such as 1,8", param_hint=option)
    return numbers
