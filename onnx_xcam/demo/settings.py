"""This module makes the settings of a page: what it has to know of a model, as the JSON file `model.json` holds it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.errors import InputError, ModelError, PreprocessError
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.photo_pipeline import ModelInputs
from onnx_xcam.images.boxes import COLOURS
from onnx_xcam.images.draw import colour
from onnx_xcam.images.prepare import preprocess_image
from onnx_xcam.text import listed, quoted

PAGE_MARK = "onnx-xcam demo"
"""The value of `page` by which a folder is known as a page that was written here."""
MODEL_FILE = "model.onnx"
TOP, TOP_OBJECTS = 5, 10
"""How many of the model's best classes, or of the best objects, the page shows."""

_LARGEST_FEED = 1 << 29
"""The most bytes that the picture input of a model for a page may take."""
_LEVELS = 256
_WHITE = 255
"""The value of white in what a browser decodes, 8 bits per channel."""


class PictureInput(TypedDict):
    """A PictureInput describes the input that the picture goes to.

    Attributes:
        name: Its name.
        dtype: Its element type.
        layout: What its axes mean, NCHW or NHWC.
        height: Of a prepared picture, in pixels.
        width: Of a prepared picture, in pixels.
        batch: How many pictures a run takes.
    """

    name: str
    dtype: str
    layout: str
    height: int
    width: int
    batch: int


class ConstantInput(TypedDict):
    """A ConstantInput says what another input is fed at every run.

    Attributes:
        name: Its name.
        dtype: Its element type.
        dims: Its shape.
        data: Its values, little-endian, in base64; empty for an input of texts, which are all empty.
    """

    name: str
    dtype: str
    dims: list[int]
    data: str


class PageSettings(TypedDict):
    """PageSettings hold what the page has to know of a model, in the file model.json beside it.

    Attributes:
        page: The mark of a file that onnx-xcam wrote.
        name: What the page calls the model.
        file: The model's file.
        bytes: The size of the model's file.
        input: The input that the picture goes to.
        preprocess: What is done to a photo, as `--preprocess` takes it.
        others: What the other inputs are fed.
        layer: The layer that is explained.
        map: The output with the maps.
        status: The output with the status of the maps, or null.
        status_text: What each status means.
        probabilities: The output that gives probabilities, what is done to it, its scale and its zero point; or null.
        class_count: The number of classes, or null where only a run tells it.
        top: How many of the best classes, or objects, the page shows.
        choices: The inputs that choose what is explained, which are all fed at every run.
        conf: The probability that an object exceeds; null for a model without objects.
        boxes: The colours of boxes, by class in turn, as 3 numbers 0..255 each.
        labels: The labels of the classes, or null.
        colours: The colour map: 256 colours of 3 bytes, in base64.
        notes: What was assumed.
    """

    page: str
    name: str
    file: str
    bytes: int
    input: PictureInput
    preprocess: dict[str, Any]
    others: list[ConstantInput]
    layer: str
    map: str
    status: str | None
    status_text: dict[str, str]
    probabilities: tuple[str, str, float, float] | None
    class_count: int | None
    top: int
    choices: list[str]
    conf: float | None
    boxes: list[list[int]]
    labels: list[str] | None
    colours: str
    notes: list[str]


def page_settings(model: LoadedModel, inputs: ModelInputs, name: str, size: int) -> PageSettings:
    """Return the settings of a page, after the model was run once with a blank photo, as the page will run it.

    Args:
        model: the instrumented model as the page gets it.
        inputs: the model's preprocessing and labels.
        name: what the page calls the model.
        size: the size of the model's file in bytes.

    Raises:
        PreprocessError: the preprocessing contradicts the model's input.
        InputError: the model takes more than a page should hold, rows for several images, or inputs of a type that
            browsers lack.
        ModelError: the model cannot be run, or gives no map of the expected shape.
    """
    spec = inputs.spec
    _require_decodable(inputs)
    height, width = inputs.preprocess.input_size(spec)
    others = _tried(model, inputs)
    source, candidates = model.probabilities, model.metadata.candidates
    return {
        "page": PAGE_MARK,
        "name": name,
        "file": MODEL_FILE,
        "bytes": size,
        "input": {
            "name": spec.name,
            "dtype": str(spec.dtype),
            "layout": spec.layout,
            "height": height,
            "width": width,
            "batch": model.batch or 1,
        },
        "preprocess": inputs.preprocess.to_dict(),
        "others": [_constant(key, value) for key, value in others.items()],
        "layer": model.layers[0],
        "map": contract.output_name("map"),
        "status": contract.output_name("status") if model.outputs("status") else None,
        "status_text": {str(key): text for key, text in contract.STATUS_TEXT.items()},
        "probabilities": None if source is None else (source.output, source.squash, source.scale, source.zero_point),
        "class_count": model.class_count,
        "top": min(TOP, model.class_count or 1) if candidates is None else TOP_OBJECTS,
        "choices": _choices(model),
        "conf": None if candidates is None else candidates.conf,
        "boxes": [list(one) for one in COLOURS],
        "labels": None if inputs.labels is None else list(inputs.labels),
        "colours": _base64(colour(np.arange(_LEVELS) / (_LEVELS - 1))),
        "notes": [*model.metadata.notes, *inputs.notes, *model.others.notes()],
    }


def _require_decodable(inputs: ModelInputs) -> None:
    """Make sure that a browser decodes what the model takes: grey or RGB pictures of 8 bits.

    Raises:
        PreprocessError: the model takes other channels, or the preprocessing is about values or bands of a file.
    """
    spec, preprocess = inputs.spec, inputs.preprocess
    if spec.channels not in (1, 3):
        what = f"the model's input {spec.name!r} takes pictures of {spec.channels} channels"
    elif preprocess.window is not None or preprocess.white not in (None, _WHITE):
        setting = "white" if preprocess.window is None else "window"
        what = f"the preprocessing states {setting}, which is about the values of files of more than 8 bits"
    elif preprocess.bands is not None:
        what = "the preprocessing states bands, and a browser does not tell which channels a file has"
    else:
        return
    raise PreprocessError(f"{what}: a web page cannot do that, onnx-xcam explain can")


def _choices(model: LoadedModel) -> list[str]:
    """Return the inputs that choose what is explained."""
    return [name for name in contract.CHOICE_INPUTS if model.has(name)]


def _tried(model: LoadedModel, inputs: ModelInputs) -> dict[str, Any]:
    """Run the model once as the page will, and return what it is fed beside the picture."""
    blank = np.full((8, 8, 3), 128, np.uint8)
    item, _ = preprocess_image(blank, inputs.preprocess, inputs.spec)
    count = model.batch or 1
    if (size := count * item.nbytes) > _LARGEST_FEED:
        raise InputError(
            f"{model.name} takes {size >> 20} MiB at once, which is too much for a web page; export it with a smaller "
            "batch or picture."
        )
    model.others.check_count(1, model.batch)
    others = model.others.rows(0, count, 1)
    if unread := [name for name, value in others.items() if value is None]:
        raise InputError(
            f"A web page can feed nothing to {listed(quoted(unread), rest='others')}, of a type that browsers lack; "
            "remove these inputs from the model, which no node reads."
        )
    best = {name: np.array([[-1]], np.int64) for name in _choices(model)}
    feeds = {**others, inputs.spec.name: np.stack([item] * count), **best}
    maps = model.session.run(feeds, [contract.output_name("map")])[contract.output_name("map")]
    if maps.ndim != 4 or maps.shape[:2] != (count, 1):
        raise ModelError(
            f"{model.name} gives a map of the shape {contract.shape_text(maps.shape)}; instrument the original again."
        )
    return others


def _constant(name: str, value: NDArray[Any]) -> ConstantInput:
    """Return a constant input for JSON: an array's bytes, little-endian, in base64; of empty texts, no bytes."""
    text = value.dtype.kind == "U"
    return {
        "name": name,
        "dtype": "string" if text else str(value.dtype),
        "dims": list(value.shape),
        "data": "" if text else _base64(value),
    }


def _base64(array: NDArray[Any]) -> str:
    """Return the bytes of an array, little-endian, in base64."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def page_name(model: Path) -> str:
    """Return what the page calls a model: its file's name without the ending."""
    return model.stem or str(model)
