"""What runtimes are tried with of objects: the sample detector, on a picture with objects, one without, and both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

import onnx_xcam
from onnx_xcam import contract
from tools.common.folders import SAMPLE_MODELS
from tools.common.tables import in_markdown

NAME = "tiny_detector"
HEADS = {"objects": "five objects", "no object": "a picture without objects", "two pictures": "two pictures at once"}
"""The columns of the table by the jobs that fill them."""

_MODEL = SAMPLE_MODELS / f"{NAME}.onnx"
_OBJECTS = [-1, -2, -3, -4, -5]
"""One more than there are in the picture, so that a status of 4 is among the results."""

Job = tuple[bytes, dict[str, np.ndarray]]
"""An instrumented detector, and what its inputs are fed."""


def jobs(form: contract.ClassInput) -> dict[str, Job]:
    """Return what is run of the detector in a form of its inputs, by the names in `HEADS`."""
    fixed = {"objects": _OBJECTS} if form == "fixed" else {}
    content = onnx_xcam.instrument(_MODEL, class_input=form, emit=("map", "status"), **fixed).SerializeToString()
    explainer = onnx_xcam.Explainer(_MODEL, providers="cpu")
    shapes = explainer.prepare(SAMPLE_MODELS / "pictures/shapes.png").item
    blank = explainer.prepare(np.full((96, 96, 3), 110, np.uint8)).item
    pictures = {"objects": [shapes], "no object": [blank], "two pictures": [blank, shapes]}
    return {name: (content, _feeds(np.stack(items), form)) for name, items in pictures.items()}


def _feeds(pictures: np.ndarray, form: contract.ClassInput) -> dict[str, np.ndarray]:
    """Return the inputs in the order of the file: the pictures, and the choice unless the file holds it."""
    if form == "fixed":
        return {"images": pictures}
    objects = np.tile(np.array(_OBJECTS, np.int64), (len(pictures), 1))
    own = np.full_like(objects, -1)
    return {"images": pictures, contract.OBJECT_INPUT: objects, contract.CLASS_INPUT: own}


def table(record: Mapping[str, Any], titles: Sequence[str], cell: Callable[[Mapping[str, Any] | None], str]) -> str:
    """Return the table of the detector as Markdown: a row for each runtime, with what `cell` says of a result."""
    rows = [[title, *(cell(record.get(f"{title}|{NAME}|{job}")) for job in HEADS)] for title in titles]
    return f"### Objects, with {NAME}\n\n" + in_markdown(["runtime", *HEADS.values()], rows) + "\n"
