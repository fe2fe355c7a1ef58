"""The command `onnx-xcam compare` shows the maps of several methods, and how far each method is from the axioms."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onnx_xcam.cams.methods import METHODS
from onnx_xcam.cli.options import (
    ClassOption,
    LayerOption,
    ModelArgument,
    ScoreOption,
    SignedOption,
    refuse_class_and_top,
    say_all,
)
from onnx_xcam.cli.shared import ObjectOptions, OpeningOptions, spread, standard_input

if TYPE_CHECKING:
    from onnx_xcam.evaluation.compare import Comparison


@spread
def compare(
    model: ModelArgument,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A photo; - is standard input.", show_default=False)],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The picture to write.")] = Path(
        "comparison.png"
    ),
    class_: ClassOption = None,
    top: Annotated[
        int | None,
        typer.Option(
            "--top",
            metavar="K",
            min=1,
            help="Compare the K best classes, or of a detector the K best objects.",
            show_default=False,
        ),
    ] = None,
    objects: ObjectOptions,
    layer: LayerOption = None,
    score: ScoreOption = "auto",
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            metavar="METHOD",
            help=f"A method, of: {', '.join(METHODS)}. May be repeated. Default: all but those that take long, are "
            "much like another one, or have the input's resolution.",
            show_default=False,
        ),
    ] = None,
    signed: SignedOption = False,
    axioms: Annotated[
        bool, typer.Option("--axioms/--no-axioms", help="Tell how far each method is from the axioms.")
    ] = True,
    opening: OpeningOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Compare methods on a photo: one picture with a row for each class and layer and a column for each method, and
    how far each is from the axioms of conservation and sensitivity: 0 is best."""
    refuse_class_and_top(class_, top)
    asked = objects.asked(top)
    options = opening.model_options(layer, score)
    from onnx_xcam.common.files import written
    from onnx_xcam.evaluation.compare import DEFAULT_METHODS
    from onnx_xcam.evaluation.compare import compare as compare_methods
    from onnx_xcam.explainer.recorder import Recorder
    from onnx_xcam.images.sources import Named
    from onnx_xcam.images.write import encode_image
    from onnx_xcam.text import json_text

    _check_out(out, model, image)
    opened = {**options.arguments(), "contrast": bool(objects.against)}
    recorder = Recorder(model, methods=method or DEFAULT_METHODS, ablations=axioms, **opened)
    say_all("note", [note for note in recorder.notes if note not in recorder.warnings])
    say_all("warning", recorder.warnings)
    source = Named(standard_input(), "stdin") if image == Path("-") else image
    comparison = compare_methods(
        recorder, recorder.prepare(source), recorder.choose(class_ or None, top, **asked), relu=not signed
    )
    if not comparison.cells:
        say_all(
            "note", [f"{comparison.picture.name}: the model keeps no object there, so there is nothing to compare."]
        )
        if as_json:
            typer.echo(json_text(comparison.to_dict(), indent=2))
        return
    with written(out) as file:  # put in place as a whole, even if another run writes the same file
        file.write(encode_image(comparison.panel(), out.suffix))
    say_all("warning", dict.fromkeys(line for one in comparison.explanations.values() for line in one.warnings()))
    typer.echo(json_text(comparison.to_dict(), indent=2) if as_json else _table(comparison))
    typer.echo(str(out), err=as_json)


def _check_out(out: Path, model: Path, image: Path) -> None:
    """Make sure, before a model is run, that a picture can be written to a path.

    Raises:
        OutputError: the path is the model or the photo, its folder does not exist, or its suffix is of no picture.
    """
    import numpy as np

    from onnx_xcam.common.files import is_folder, resolved
    from onnx_xcam.errors import OutputError
    from onnx_xcam.images.write import encode_image

    if resolved(out) in (resolved(model), resolved(image)):
        raise OutputError(f"'{out}' is the model or the photo; name another file with -o.")
    if not is_folder(out.parent):
        raise OutputError(f"The folder '{out.parent}' is not there; make it, or name another file with -o.")
    encode_image(np.zeros((1, 1, 3), np.uint8), out.suffix)


def _table(comparison: Comparison) -> str:
    """Return the errors of the axioms as a table, with a line for each class, layer and method.

    Of objects, it also has where each is, and how similar the map is to that by the first method.
    """
    from onnx_xcam.evaluation.compare import shown
    from onnx_xcam.explainer.described import at_box
    from onnx_xcam.text import printable

    of_objects = comparison.cells[0].object is not None
    rows = [["class", "score", "layer", "method", "conservation", "sensitivity", "scaled"]]
    rows[0] += ["similarity", "object", "at"] if of_objects else []
    for cell in comparison.cells:
        errors = [shown(error) for error in (cell.conservation, cell.sensitivity, cell.scaled_sensitivity)]
        similar = "-" if cell.similarity is None else f"{cell.similarity:.2f}"
        place = [similar, str(cell.object), "-" if cell.box is None else at_box(cell.box)] if of_objects else []
        rows.append([str(cell.class_id), f"{cell.score:.2f}", printable(cell.layer), cell.method, *errors, *place])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
