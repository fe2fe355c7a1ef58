"""This module groups the options that several commands share, and gives each command the options of its groups.

A group is a dataclass. A command takes it as one parameter and is decorated with `spread`, so that Typer sees an option
for each of the group's fields in the place of that parameter.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import typer

from onnx_xcam.cli.options import (
    AgainstOption,
    AllowFolderOption,
    BoxOption,
    ConfOption,
    ExactOption,
    HtmlOption,
    InputOption,
    IouOption,
    LabelsOption,
    ObjectOption,
    PointOption,
    PreprocessOption,
    ProbabilitiesOption,
    ProbabilityWay,
    ProviderOption,
    QuietOption,
    RecursiveOption,
    ResumeOption,
    TaskOption,
    ThreadsOption,
    command_line,
    coordinates,
    input_values,
    layers_or_auto,
    say,
)
from onnx_xcam.cli.reporter import TerminalReporter

if TYPE_CHECKING:
    from onnx_xcam.explainer import ModelOptions
    from onnx_xcam.explainer.choosing import ObjectsAsked


@dataclass(frozen=True, kw_only=True)
class OpeningOptions:
    """OpeningOptions are the options that say how a model is opened for photos, beside its layers and score."""

    labels: LabelsOption = None
    preprocess: PreprocessOption = None
    probabilities: ProbabilitiesOption = ProbabilityWay.AUTO
    input_: InputOption = None
    provider: ProviderOption = None
    threads: ThreadsOption = None
    exact: ExactOption = False
    allow_folder: AllowFolderOption = None
    task: TaskOption = "auto"
    conf: ConfOption = None
    iou: IouOption = None

    def model_options(self, layer: Sequence[str] | None, score: str) -> ModelOptions:
        """Return these options, with those of --layer and --score, as `Explainer` and `Recorder` take them.

        Raises:
            BadParameter: a value of --input is not NAME=VALUE, or an input has two values.
        """
        others = input_values(self.input_)
        from onnx_xcam.explainer import ModelOptions

        return ModelOptions(
            layers=layers_or_auto(layer),
            score=score,
            preprocess=self.preprocess,
            labels=self.labels,
            providers=self.provider,
            threads=self.threads,
            inputs=others,
            allow_folders=self.allow_folder or (),
            probabilities=self.probabilities.value,
            exact=self.exact,
            task=self.task,
            conf=self.conf,
            iou=self.iou,
        )


@dataclass(frozen=True, kw_only=True)
class ObjectOptions:
    """ObjectOptions are the options that say which objects of a detector are explained, and against which classes."""

    object_: ObjectOption = None
    box: BoxOption = None
    point: PointOption = None
    against: AgainstOption = None

    def asked(self, top: int | None = None) -> ObjectsAsked:
        """Return these options as arguments of `choose`.

        Args:
            top: the value of --top, which also says which objects are explained.

        Raises:
            BadParameter: a box or a point is none, or more than one option says which objects are explained.
        """
        given = {"--object": self.object_, "--box": self.box, "--point": self.point, "--top": top}
        named = [name for name, value in given.items() if value]
        if len(named) > 1:
            raise typer.BadParameter(f"give one of {' and '.join(named)}, not {len(named)}")
        return {
            "objects": self.object_ or None,
            "boxes": coordinates("--box", self.box, 4),
            "points": coordinates("--point", self.point, 2),
            "against": self.against or None,
        }


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """JobOptions are the options of a command that runs a job over many photos."""

    html: HtmlOption = None
    recursive: RecursiveOption = False
    resume: ResumeOption = False
    quiet: QuietOption = False

    def request_fields(self, context: typer.Context) -> dict[str, Any]:
        """Return the fields of a `PhotosRequest` that these options and the command line set, by name."""
        command = command_line(context)
        return {"html": self.html, "recursive": self.recursive, "resume": self.resume, "command": command}

    def reporter(self) -> TerminalReporter:
        """Return the terminal as the job's reporter, quiet if --quiet is given."""
        return TerminalReporter(quiet=self.quiet)

    @staticmethod
    def fail_for(failed: int, photos: int, done: str) -> None:
        """End the command with exit status 1 and a message, if some photos could not be explained or evaluated.

        Args:
            failed: the number of photos without a result.
            photos: the number of all photos.
            done: what could not be done, as a participle: "explained".
        """
        if failed:
            say(f"error: {failed} of {photos} pictures could not be {done}.")
            raise typer.Exit(1)


def standard_input() -> bytes:
    """Return what standard input holds, and no more than one byte above the largest size of a picture file."""
    from onnx_xcam.images.content import MAX_BYTES

    return sys.stdin.buffer.read(MAX_BYTES + 1)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command with a keyword parameter for each field of those parameters that are dataclasses."""
    hints = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    names = {group: [field.name for field in fields(kind)] for group, kind in groups.items()}

    @functools.wraps(command)
    def spread_command(*args: Any, **values: Any) -> None:
        made = {
            group: cast("Any", kind)(**{name: values.pop(name) for name in names[group]})
            for group, kind in groups.items()
        }
        command(*args, **values, **made)

    parameters: list[Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        kind = hints[parameter.name]
        parameters += _parameters_of(kind) if is_dataclass(kind) else [parameter.replace(annotation=kind)]
    for name, value in (
        ("__signature__", inspect.Signature(parameters)),
        ("__annotations__", {one.name: one.annotation for one in parameters}),
    ):
        setattr(spread_command, name, value)
    return spread_command


def _parameters_of(group: Any) -> list[Parameter]:
    """Return a keyword parameter for each field of a dataclass, with the field's annotation and default."""
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(group)
    ]
