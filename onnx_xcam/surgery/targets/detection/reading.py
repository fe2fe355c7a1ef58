"""This module defines a Reading: how the outputs of one detector are read as a table of candidates with boxes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.candidates.appended import Columns


@dataclass(frozen=True, kw_only=True)
class Reading(ABC):
    """A Reading says how the outputs of a detector are read.

    Attributes:
        form: what the outputs are, in a few words for users.
        outputs: the outputs that hold scores, the first of which users know the table by.
        box_tensors: the tensors that the boxes are made of, decoded or raw; the layers that carry evidence lie before
            both these and the scores.
        picks: whether the file itself has picked the objects, so that overlapping ones need not be dropped.
        conf, iou: thresholds that the file states, None where it states none.
        notes: what was assumed, in sentences.
    """

    form: ClassVar[str]

    outputs: Sequence[str]
    box_tensors: Sequence[str]
    picks: bool = False
    conf: float | None = None
    iou: float | None = None
    notes: tuple[str, ...] = ()

    @abstractmethod
    def emit(self, graph: Graph, emitter: Emitter) -> Columns:
        """Emit scores, probabilities and boxes.

        Raises:
            ScoreError: the outputs cannot be read so.
        """
