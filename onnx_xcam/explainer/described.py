"""This module describes an explained object in words: its class, its probability and its box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.labels import label_of
from onnx_xcam.text import printable


def labels_of(classes: NDArray[np.int64], labels: Sequence[str] | None) -> list[list[str | None]] | None:
    """Return the label of each class, [N,K], with None for a class without one; None where no labels are known."""
    return None if labels is None else [[label_of(i, labels) for i in row] for row in classes.tolist()]


def object_name(class_id: int, label: str | None, contrast: str, probability: float | None) -> str:
    """Return the class and the probability of an object, such as "face  p 0.83", or "class 3, not cat  p 0.83"."""
    named = printable(label or f"class {class_id}") + contrast
    return named if probability is None else f"{named}  p {probability:.2f}"


def at_box(box: Sequence[float] | NDArray[np.floating]) -> str:
    """Return a box x1, y1, x2, y2 as a text, rounded to whole pixels: "40,60 180,300"."""
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    return f"{x1},{y1} {x2},{y2}"
