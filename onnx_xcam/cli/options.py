"""This module has arguments and options that several commands share, and prints the messages of commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.cams.methods import DEFAULT_METHOD, EMITTED, METHODS, OBJECTS_METHOD
from onnx_xcam.text import printable


class ProbabilityWay(StrEnum):
    """A ProbabilityWay is a choice of --probabilities, with the values of `ProbabilityChoice`."""

    AUTO = "auto"
    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"
    NONE = "none"


ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="An exported ONNX model.", show_default=False)]
LayerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        metavar="LAYER",
        help="Target layer: a tensor, a node, a module path or a unique part of one, as `inspect` lists them. "
        "May be repeated. Default: the last spatial feature map.",
        show_default=False,
    ),
]
ScoreOption = Annotated[
    str, typer.Option("--score", metavar="TENSOR", help="The class scores, before any softmax. auto: the logits.")
]
MethodsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"The CAM method: {', '.join(METHODS)}. May be repeated. Default: auto, which is {DEFAULT_METHOD}, "
        f"or for objects {OBJECTS_METHOD}.",
        show_default=False,
    ),
]
EmittedMethodOption = Annotated[
    str,
    typer.Option(
        "--method",
        metavar="METHOD",
        help=f"The CAM method: {', '.join(EMITTED)}, or auto: {DEFAULT_METHOD}, for objects {OBJECTS_METHOD}.",
    ),
]
SignedOption = Annotated[
    bool, typer.Option("--signed", help="Also show what speaks against the class: the map without its ReLU.")
]
FuseOption = Annotated[
    Fusion | None,
    typer.Option(
        "--fuse",
        metavar="mean|max|product",
        help="Make one map of all layers': their mean, maximum or product.",
        show_default=False,
    ),
]
ClassOption = Annotated[
    list[str] | None,
    typer.Option(
        "--class",
        metavar="ID|LABEL",
        help="Class to explain; -1 is the model's top class, -2 the second best. May be repeated.",
        show_default=False,
    ),
]
ObjectOption = Annotated[
    list[int] | None,
    typer.Option(
        "--object",
        metavar="N",
        help="Of a detector, the object to explain: -1 is the best that is kept, -2 the second best, 0 and above a "
        "candidate (an anchor, a query, a row). May be repeated.",
        show_default=False,
    ),
]
BoxOption = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="X1,Y1,X2,Y2",
        help="Of a detector, the object that covers this box of the photo best, in pixels. May be repeated.",
        show_default=False,
    ),
]
PointOption = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y",
        help="Of a detector, the smallest object at this point of the photo, in pixels. May be repeated.",
        show_default=False,
    ),
]
AgainstOption = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="ID|LABEL",
        help="Explain what speaks for the class and not for this one. Once, or for each class or object.",
        show_default=False,
    ),
]
TaskOption = Annotated[
    str,
    typer.Option(
        "--task",
        metavar="TASK",
        help="What the model is for: classification or detection. auto: what its file says or shows.",
    ),
]
ConfOption = Annotated[
    float | None,
    typer.Option(
        "--conf",
        metavar="P",
        help="Of a detector, the probability above which a candidate is an object. Default: what the file states, "
        "else 0.25.",
        show_default=False,
    ),
]
IouOption = Annotated[
    float | None,
    typer.Option(
        "--iou",
        metavar="IOU",
        help="Of a detector, the overlap above which the worse of two boxes of a class is dropped. Default: what the "
        "file states, else 0.45.",
        show_default=False,
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=VALUE",
        help="What another input than the picture's is fed: a .npy file, a number that fills it, numbers such as "
        "1,224,224 or [[1,2],[3,4]], or for a second picture its file, prepared as the first is. May be repeated.",
        show_default=False,
    ),
]
PictureOption = Annotated[
    str | None,
    typer.Option(
        "--picture",
        metavar="INPUT",
        help="Of a model with several picture inputs, the one that is explained. Default: the first.",
        show_default=False,
    ),
]
LabelsOption = Annotated[
    Path | None,
    typer.Option(
        "--labels",
        metavar="FILE",
        help="Class labels: a text file with a line per class, or a file in which a producer states them. "
        "Default: what the model's metadata or a file beside it says.",
        show_default=False,
    ),
]
PreprocessOption = Annotated[
    str | None,
    typer.Option(
        "--preprocess",
        metavar="PRESET|FILE",
        help="How a photo becomes the model's input: a preset's name, that of published weights (timm:NAME, "
        "torchvision:NAME, keras:NAME), a JSON or YAML file, or a file in which a producer states it, such as "
        "preprocessor_config.json. "
        "Default: what the model's metadata or a file beside it says.",
        show_default=False,
    ),
]
ProbabilitiesOption = Annotated[
    ProbabilityWay,
    typer.Option(
        "--probabilities",
        metavar="|".join(ProbabilityWay),
        help="auto: those that the model tells, or the softmax of a known classifier's logits. softmax or sigmoid: the "
        "scores are logits, of one class out of several or of several labels at once. none: show none.",
    ),
]
ProviderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--provider",
        metavar="NAME",
        help="cpu, cuda, or any provider that the installed ONNX Runtime lists; repeated: in order of preference. "
        "Default: cuda where there is one, else cpu.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", metavar="N", min=1, help="Threads of one operator. Default: all cores.", show_default=False
    ),
]
ExactOption = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Add up 8-bit products exactly, which x86 processors without VNNI do not do by themselves; on others this "
        "changes nothing.",
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        "--html",
        metavar="FILE",
        help="Also write a page that shows everything: one HTML file, to be opened in any browser.",
        show_default=False,
    ),
]
AllowFolderOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--allow-folder",
        metavar="DIR",
        help="A folder outside of the model's own in which its external data may lie, as in a model hub's cache. "
        "May be repeated. Default: none; a model that names such files is refused.",
        show_default=False,
    ),
]


RecursiveOption = Annotated[bool, typer.Option("--recursive", "-r", help="Also take photos of folders in folders.")]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Continue an earlier run with the same options: photos of which results.jsonl has a line without an "
        "error are done.",
    ),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say only what went wrong.")]


def coordinates(option: str, texts: Sequence[str] | None, count: int) -> list[list[float]] | None:
    """Return the boxes or points that an option gives, each as `count` numbers; None without the option.

    Raises:
        BadParameter: a text is not so many numbers with commas between them.
    """
    if not texts:
        return None
    places = []
    for text in texts:
        try:
            numbers = [float(part) for part in text.split(",")]
        except ValueError:
            numbers = []
        if len(numbers) != count:
            raise typer.BadParameter(f"{text!r} is not {count} numbers with commas between them", param_hint=option)
        places.append(numbers)
    return places


def refuse_class_and_top(class_: Sequence[str] | None, top: int | None) -> None:
    """Raise a BadParameter if a command line has both --class and --top."""
    if class_ and top is not None:
        raise typer.BadParameter("give either --class or --top, not both")


def layers_or_auto(layer: Sequence[str] | None) -> str | list[str]:
    """Return the argument `layers` of the surgery for the values of --layer."""
    return list(layer) if layer else "auto"


def input_values(assignments: Sequence[str] | None) -> dict[str, Any]:
    """Return the argument `inputs` of `Explainer` for the values of --input, or raise a BadParameter."""
    from onnx_xcam.feeds import parse_value

    inputs: dict[str, Any] = {}
    for assignment in assignments or ():
        name, equals, value = assignment.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(f"{assignment!r} is not NAME=VALUE", param_hint="--input")
        if name in inputs:
            raise typer.BadParameter(f"{name!r} is given twice", param_hint="--input")
        inputs[name] = parse_value(value)
    return inputs


def command_line(context: typer.Context) -> str:
    """Return the running command as a line for a shell, with the options that were given and the arguments."""
    options: list[str] = []
    words: list[str] = []
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name or ""]
        values = value if isinstance(value, list | tuple) else [value]
        if parameter.param_type_name == "argument":
            words += map(str, values)
        elif value is True:
            options.append(parameter.opts[0])
        else:
            options += [word for one in values for word in (parameter.opts[0], str(one))]
    marked = ["--", *words] if any(word.startswith("-") for word in words) else words
    return shlex.join(["onnx-xcam", str(context.info_name), *options, *marked])


def say(message: str) -> None:
    """Print a message on stderr."""
    typer.echo(printable(message), err=True)


def say_all(kind: str, messages: Iterable[str]) -> None:
    """Print messages of a kind ("note", "warning", "error") on stderr, one per line."""
    for message in messages:
        say(f"{kind}: {message}")
