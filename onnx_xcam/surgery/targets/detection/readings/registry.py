"""This module lists the readings of detectors' outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.reading import Reading
from onnx_xcam.surgery.targets.detection.readings import anchors, heat_map, level_maps, one_table, rows, separate

Find: TypeAlias = Callable[[Outputs], Reading | None]
"""A function of this type returns how the outputs are read, or None if they do not have its form."""

READINGS: Sequence[Find] = (
    one_table.find,
    separate.find,
    rows.find,
    heat_map.find,
    anchors.find,
    level_maps.find,
)
"""A model is read in each of these ways; where more than one fits, nothing is guessed."""
