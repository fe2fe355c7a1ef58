"""The command `onnx-xcam instrument` writes a model that explains itself."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_xcam import contract
from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.cli.options import (
    AllowFolderOption,
    ClassOption,
    ConfOption,
    EmittedMethodOption,
    FuseOption,
    IouOption,
    LabelsOption,
    LayerOption,
    ModelArgument,
    ObjectOption,
    PictureOption,
    ScoreOption,
    SignedOption,
    TaskOption,
    layers_or_auto,
    say_all,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


class ClassInputChoice(StrEnum):
    """A ClassInputChoice says how the model gets the classes to explain: `contract.ClassInput` as an enum for Typer."""

    OPTIONAL = "optional"
    REQUIRED = "required"
    FIXED = "fixed"


class ExternalDataChoice(StrEnum):
    """An ExternalDataChoice says where external weights go: `contract.ExternalDataChoice` as an enum for Typer."""

    AUTO = "auto"
    SHARE = "share"
    COPY = "copy"
    INLINE = "inline"


def instrument(
    model: ModelArgument,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="The instrumented model to write.", show_default=False)
    ],
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: EmittedMethodOption = AUTO_METHOD,
    signed: SignedOption = False,
    fuse: FuseOption = None,
    emit: Annotated[
        str, typer.Option("--emit", metavar="LIST", help=f"Outputs to add, of: {', '.join(contract.EMITS)}.")
    ] = ",".join(contract.DEFAULT_EMIT),
    class_input: Annotated[
        ClassInputChoice,
        typer.Option(
            "--class-input",
            metavar="optional|required|fixed",
            help="How classes are chosen: an input with a default (-1, the top class), a plain input, "
            "or none: settled now by --class.",
        ),
    ] = ClassInputChoice.OPTIONAL,
    class_: ClassOption = None,
    labels: LabelsOption = None,
    picture: PictureOption = None,
    external_data: Annotated[
        ExternalDataChoice,
        typer.Option(
            "--external-data",
            metavar="auto|share|copy|inline",
            help="Weights in other files: OUT uses the same files (which must lie in its folder or below), gets copies "
            "beside it, or holds them itself (below 2 GiB). auto: share in the same folder, else copy.",
        ),
    ] = ExternalDataChoice.AUTO,
    allow_folder: AllowFolderOption = None,
    task: TaskOption = "auto",
    conf: ConfOption = None,
    iou: IouOption = None,
    contrast: Annotated[
        bool,
        typer.Option("--contrast", help="Add the input xcam_against: what speaks for a class and not for another one."),
    ] = False,
    object_: ObjectOption = None,
) -> None:
    """Write a model that does what MODEL does and, in the same run, gives its own XGrad-CAM."""
    emits = _emits(emit)
    fixed = class_input is ClassInputChoice.FIXED
    if fixed != bool(class_ or object_):
        raise typer.BadParameter(
            "--class-input fixed needs at least one --class or --object"
            if fixed
            else f"--{'class' if class_ else 'object'} needs --class-input fixed"
        )
    from onnx_xcam.surgery import instrument_file

    folders = allow_folder or ()
    compared = _compared(model, folders)
    metadata = instrument_file(
        model,
        out,
        layers=layers_or_auto(layer),
        score=score,
        method=method,
        relu=not signed,
        fuse=fuse,
        emit=emits,
        class_input=class_input.value,
        classes=_class_ids(model, class_, labels, folders) if class_ else None,
        picture=picture or "auto",
        external_data=external_data.value,
        allow_folders=folders,
        task=task,
        conf=conf,
        iou=iou,
        objects=object_ or None,
        contrast=contrast,
    )
    say_all("note", [*metadata.notes, *compared])
    typer.echo(str(out))


def _compared(model: Path, folders: Sequence[Path]) -> list[str]:
    """Return one sentence on how the outputs change if the opset has to be raised, and an empty list if not."""
    from onnx_xcam.errors import DependencyError
    from onnx_xcam.surgery.files.source import Source
    from onnx_xcam.trials.comparison import compare_raised

    try:
        note = compare_raised(Source(model, allow_folders=folders))
    except DependencyError as error:
        note = f"Model: its outputs before and after it was raised were not compared: {error}"
    return [note] if note else []


def _emits(text: str) -> tuple[contract.Emit, ...]:
    """Return the outputs that a list with commas names, or raise a BadParameter."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in contract.EMITS]
    if unknown or not names:
        raise typer.BadParameter(
            f"{', '.join(unknown) or 'an empty list'} is none of {', '.join(contract.EMITS)}", param_hint="--emit"
        )
    return tuple(name for name in contract.EMITS if name in names)


def _class_ids(model: Path, names: Sequence[str], labels_file: Path | None, allow: Sequence[Path]) -> list[int]:
    """Return the ids that --class means, by the labels of --labels or of the model; the surgery checks their range."""
    from onnx_xcam.labels import labels_from_metadata, load_labels, resolve_class
    from onnx_xcam.surgery.files.source import Source

    if labels_file:
        labels: list[str] | None = load_labels(labels_file)
    else:
        props = {prop.key: prop.value for prop in Source(model, allow_folders=allow).skeleton().metadata_props}
        labels = labels_from_metadata(props)
    return [resolve_class(name, labels, None) for name in names]
