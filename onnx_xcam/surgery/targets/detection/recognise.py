"""This module recognises a detector, and makes its table of candidates by the one reading that fits its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from onnx_xcam.contract import Task
from onnx_xcam.errors import ScoreError
from onnx_xcam.metadata import Candidates
from onnx_xcam.surgery.targets.candidates.appended import SCORES, added
from onnx_xcam.surgery.targets.candidates.table import CandidateTable
from onnx_xcam.surgery.targets.detection.cut import cut_of, why_cut
from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.kept import ranks
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.detection.readings.registry import READINGS
from onnx_xcam.surgery.targets.layer import Layer
from onnx_xcam.surgery.targets.layers import Layers
from onnx_xcam.surgery.targets.target import Evidence

USUAL_CONF = 0.25
"""Objects have a probability above this where neither the user nor the file says otherwise, as at Ultralytics."""
USUAL_IOU = 0.45
"""Of two boxes of one class that overlap by more than this one is dropped where nothing else is stated."""


@dataclass(frozen=True, kw_only=True)
class Detection(CandidateTable):
    """A Detection describes the candidates of a detector: the boxes among which it chooses objects.

    Attributes:
        reading: how the model's outputs are read.
    """

    task: ClassVar[Task] = "detection"
    only: ClassVar[str] = "Only objects in pictures are explained."
    doubt: ClassVar[str] = "Is this a detector?"
    adds_up: ClassVar[bool] = True

    reading: Reading

    def default_layers(self, layers: Layers) -> list[Layer]:
        """Return the cut: the layers, one per pyramid level, that carry the evidence for scores and boxes.

        Raises:
            LayerError: there is none.
        """
        return cut_of(layers, self.reading)

    def why_default(self, layers: Layers, layer: Layer) -> str:
        """Return why a member of the cut is one, and what it lacks, as a phrase for users."""
        return why_cut(layers, layer)


def recognise(evidence: Evidence) -> Detection:
    """Return the candidates of a detector.

    Raises:
        ScoreError: the model is no detector, as far as its outputs show, fits two readings, or a score is asked for by
            name, which candidates are not.
    """
    if evidence.wanted != "auto":
        raise ScoreError("A score that is named is no table of candidates.")
    outputs = Outputs(evidence)
    found = [reading for find in READINGS if (reading := find(outputs)) is not None]
    if not found:
        raise ScoreError("No output holds candidates with boxes in a form that can be read.")
    if len(found) > 1:
        both = " or ".join(f"as {reading.form}" for reading in found)
        raise ScoreError(f"The outputs can be read {both}; nothing in the file says which is right.")
    return _detection(evidence, found[0])


def _detection(evidence: Evidence, reading: Reading) -> Detection:
    """Return the table of candidates of a reading."""
    graph, asked = evidence.graph, evidence.thresholds
    conf = _first(asked.conf, reading.conf, USUAL_CONF)
    iou = None if reading.picks else _first(asked.iou, reading.iou, USUAL_IOU)
    nodes = added(graph, reading.emit, lambda columns: ranks(columns, conf, iou))
    told = Candidates(SCORES, 1, reading.form, nodes.has_boxes, conf, iou if nodes.has_boxes else None)
    return Detection(
        name=SCORES,
        public_name=SCORES,
        shape=nodes.shape,
        batch=0,
        notes=(*_described(reading, told), *reading.notes),
        added=nodes.message,
        candidates=told,
        has_boxes=nodes.has_boxes,
        are_probabilities=nodes.are_probabilities,
        reading=reading,
    )


def _first(*numbers: float | None) -> float:
    """Return the first of these numbers that is one."""
    return next(number for number in numbers if number is not None)


def _described(reading: Reading, told: Candidates) -> list[str]:
    """Return the notes on what the task is taken for, and on the thresholds."""
    names = " and ".join(f"'{name}'" for name in reading.outputs)
    objects = f"Objects: those with a probability above {told.conf:g}"
    if told.iou is not None:
        objects += f"; of boxes of one class that overlap by more than {told.iou:g} the best is kept"
    elif not reading.picks:
        objects += "; boxes are not known, so that overlapping objects are kept"
    else:
        objects += "; the file itself has picked them"
    return [f"Task: detection, since {names} can be read as {reading.form}.", f"{objects}."]
