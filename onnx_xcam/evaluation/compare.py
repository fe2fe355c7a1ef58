"""One photo's maps by several methods, and how far each method is from the axioms: as data and as one picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.methods import METHODS
from onnx_xcam.errors import InputError
from onnx_xcam.evaluation.axioms import AxiomErrors, errors_of
from onnx_xcam.explainer.explanation import Explanation
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import LayerRecord
from onnx_xcam.images.panel import Cell, Row, panel
from onnx_xcam.images.pixels import ImageRGB

DEFAULT_METHODS = ("xgrad-cam", "grad-cam", "grad-cam++", "layer-cam", "eigen-cam", "ablation-cam")


@dataclass(frozen=True)
class Compared:
    """One map.

    Attributes:
        class_id, layer, method: of which it is.
        score: of the class, before any softmax.
        conservation: |S - sum of the shares| / sum of |shares|.
        sensitivity: sum of |S - S(without k) - share_k| / sum of |S - S(without k)|.
        scaled_sensitivity: the same after the method's shares were multiplied by the number that makes it least.
        status: as `xcam_status`.

    The errors are None for a guided method, whose map has no shares, where no axioms were asked for, and where a
    number would be divided by nothing.
    """

    class_id: int
    layer: str
    method: str
    score: float
    conservation: float | None
    sensitivity: float | None
    scaled_sensitivity: float | None
    status: int


@dataclass(frozen=True)
class Comparison:
    """Maps of one photo.

    Attributes:
        picture: the photo.
        cells: one for each class, layer and method, in this order.
        explanations: by method.
    """

    picture: Picture
    cells: tuple[Compared, ...]
    explanations: dict[str, Explanation]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain data, without the maps."""
        return {"image": self.picture.name, "maps": [asdict(cell) for cell in self.cells]}

    def panel(self) -> ImageRGB:
        """A row for each class and layer, a column for each method, the errors below: uint8 [H,W,3] RGB.

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


def compare(
    recorder: Recorder, picture: Picture, classes: NDArray[np.int64] | None, *, relu: bool = True
) -> Comparison:
    """Maps of a photo by all methods that a Recorder was opened for, with their errors if it was for ablations.

    Args:
        recorder: of the model, with its layers and methods.
        picture: as its `prepare` gives it.
        classes: as its `choose` gives them.
        relu: leave out what speaks against a class.

    Raises:
        XcamError: as `Recorder.record`, and what maps and errors raise.
    """
    recording = recorder.record(picture, classes)
    explanations = {name: recording.explanation(name, relu=relu) for name in recorder.methods}
    errors = {
        (record.name, name): _errors(recorder, record, name) for record in recording.layers for name in recorder.methods
    }
    cells = [
        _cell(k, int(class_id), index, explanations[name], errors[record.name, name])
        for k, class_id in enumerate(recording.classes)
        for index, record in enumerate(recording.layers)
        for name in recorder.methods
    ]
    return Comparison(picture, tuple(cells), explanations)


def _errors(recorder: Recorder, record: LayerRecord, method: str) -> AxiomErrors | None:
    return errors_of(record, method) if recorder.ablates and not METHODS[method].is_guided else None


def _cell(k: int, class_id: int, layer: int, explanation: Explanation, errors: AxiomErrors | None) -> Compared:
    def error(values: NDArray[np.float64] | None) -> float | None:
        return float(values[k]) if values is not None and np.isfinite(values[k]) else None

    return Compared(
        class_id=class_id,
        layer=explanation.layers[layer],
        method=explanation.method,
        score=float(explanation.scores[0, k]),
        conservation=error(errors.conservation) if errors else None,
        sensitivity=error(errors.sensitivity) if errors else None,
        scaled_sensitivity=error(errors.scaled_sensitivity) if errors else None,
        status=int(explanation.status_of(layer)[0, k]),
    )


def _error_lines(cell: Compared) -> tuple[str, ...]:
    """The errors as lines."""
    return (
        f"conservation {shown(cell.conservation)}",
        f"sensitivity {shown(cell.sensitivity)}",
        f"  at its best scale {shown(cell.scaled_sensitivity)}",
    )


def shown(error: float | None) -> str:
    """An error in three digits, a dash where there is none."""
    return "-" if error is None else f"{error:.3g}" if error < 1000 else f"{error:.0e}"
