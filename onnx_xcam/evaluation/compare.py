"""This module compares one photo's maps by several methods, with their axiom errors, as data and as a picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.methods import METHODS
from onnx_xcam.errors import InputError
from onnx_xcam.evaluation.axioms import AxiomErrors, errors_of
from onnx_xcam.evaluation.similarity import rank_correlation
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import CutRecord, LayerRecord
from onnx_xcam.images.panel import Cell, Row, panel
from onnx_xcam.images.pixels import ImageRGB

DEFAULT_METHODS = ("xgrad-cam", "grad-cam", "grad-cam++", "layer-cam", "eigen-cam", "ablation-cam")


@dataclass(frozen=True)
class Compared:
    """A Compared holds the axiom errors and the status of one map in a comparison.

    Attributes:
        class_id, layer, method: the class, the layer and the method of the map.
        score: the score of the class, before any softmax.
        conservation: |S - sum of the shares| / sum of |shares|.
        sensitivity: sum of |S - S(without k) - share_k| / sum of |S - S(without k)|.
        scaled_sensitivity: the sensitivity error after the method's shares were multiplied by the number that makes it
            least.
        status: a key of `contract.STATUS_TEXT`.
        object: the candidate, None for a model without objects.
        box: x1, y1, x2, y2 of the object in the photo's pixels, None where it is not known.
        similarity: Spearman's rank correlation of the map before the ReLU with that by the first method; None where one
            of them is the same everywhere or not finite, or their grids differ.

    The errors are None for a guided method, because its map has no shares, where no axioms were asked for, and where
    the divisor is 0.
    """

    class_id: int
    layer: str
    method: str
    score: float
    conservation: float | None
    sensitivity: float | None
    scaled_sensitivity: float | None
    status: int
    object: int | None = None
    box: tuple[float, ...] | None = None
    similarity: float | None = None


@dataclass(frozen=True)
class Comparison:
    """A Comparison holds the maps of one photo by several methods.

    Attributes:
        picture: the photo.
        cells: the errors of each map, for each class, layer and method, in this order; none of objects that the photo
            does not have.
        explanations: the explanation by each method.
    """

    picture: Picture
    cells: tuple[Compared, ...]
    explanations: dict[str, Explanation]

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data, without the maps."""
        return {"image": self.picture.name, "maps": [asdict(cell) for cell in self.cells]}

    def panel(self) -> ImageRGB:
        """Draw a row for each class and layer and a column for each method, with the errors below: uint8 [H,W,3] RGB.

        Raises:
            InputError: there is no photo, only a ready tensor.
        """
        first, photo = next(iter(self.explanations.values())), self.picture.image_rgb
        if photo is None:
            raise InputError("There is no photo to draw on, only a ready tensor.")
        titles = [METHODS[name].title for name in self.explanations]
        rows, cells = [], iter(self.cells)
        for k in range(first.classes.shape[1]):
            for layer in first.layers:
                row = [Cell(photo)]
                row += [
                    Cell(one.overlay(0, k, layer=layer), _error_lines(next(cells)))
                    for one in self.explanations.values()
                ]
                rows.append(Row(f"{first.caption(0, k)}   layer {layer}", row))
        return panel(Path(self.picture.name).name, ["photo", *titles], rows)


def compare(recorder: Recorder, picture: Picture, cells: Cells, *, relu: bool = True) -> Comparison:
    """Explain a photo by all methods that a Recorder was opened for, with axiom errors if it was opened for ablations.

    Args:
        recorder: the model with its layers and methods.
        picture: the photo, as the recorder's `prepare` gives it.
        cells: what is explained, as the recorder's `choose` gives it.
        relu: leave out what speaks against a class.

    Raises:
        XcamError: what `Recorder.record`, the maps and the errors raise.
    """
    recording = recorder.record(picture, cells)
    explanations = {name: recording.explanation(name, relu=relu).without_missing() for name in recorder.methods}
    errors = {
        (record.name, name): _errors(recorder, record, name) for record in recording.layers for name in recorder.methods
    }
    raw = {(record.name, name): record.raw(name) for record in recording.layers for name in recorder.methods}
    objects = recording.objects
    there = [k for k in range(len(recording.classes)) if objects is None or objects[k] >= 0]
    first = recorder.methods[0]
    compared = [
        replace(
            _cell(at, k, index, explanations[name], errors[record.name, name]),
            similarity=_similarity(raw[record.name, first][k], raw[record.name, name][k]),
        )
        for at, k in enumerate(there)
        for index, record in enumerate(recording.layers)
        for name in recorder.methods
    ]
    return Comparison(picture, tuple(compared), explanations)


def _similarity(first: NDArray[np.floating], other: NDArray[np.floating]) -> float | None:
    return rank_correlation(first, other) if first.shape == other.shape else None


def _errors(recorder: Recorder, record: LayerRecord | CutRecord, method: str) -> AxiomErrors | None:
    return errors_of(record, method) if recorder.ablates and not METHODS[method].is_guided else None


def _cell(at: int, k: int, layer: int, explanation: Explanation, errors: AxiomErrors | None) -> Compared:
    """Return the cell of a class or object: the one at `at` in the explanation, and the k-th of the recording."""

    def error(values: NDArray[np.float64] | None) -> float | None:
        return float(values[k]) if values is not None and np.isfinite(values[k]) else None

    return Compared(
        class_id=int(explanation.classes[0, at]),
        layer=explanation.layers[layer],
        method=explanation.method,
        score=float(explanation.scores[0, at]),
        conservation=error(errors.conservation) if errors else None,
        sensitivity=error(errors.sensitivity) if errors else None,
        scaled_sensitivity=error(errors.scaled_sensitivity) if errors else None,
        status=int(explanation.status_of(layer)[0, at]),
        object=None if explanation.objects is None else int(explanation.objects[0, at]),
        box=None if explanation.boxes is None else tuple(round(v, 3) for v in explanation.boxes[0, at].tolist()),
    )


def _error_lines(cell: Compared) -> tuple[str, ...]:
    """Return the errors of a map as the lines below its picture."""
    return (
        f"conservation {shown(cell.conservation)}",
        f"sensitivity {shown(cell.sensitivity)}",
        f"  at its best scale {shown(cell.scaled_sensitivity)}",
    )


def shown(error: float | None) -> str:
    """Format an error with three digits, or as a dash where it is None."""
    return "-" if error is None else f"{error:.3g}" if error < 1000 else f"{error:.0e}"
