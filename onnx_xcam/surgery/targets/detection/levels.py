"""This module finds the grids of the pyramid levels that raw boxes belong to: their maps and strides."""

from __future__ import annotations

from onnx_xcam.surgery.targets.detection.evidence import Outputs
from onnx_xcam.surgery.targets.detection.spans import Span, origins
from onnx_xcam.surgery.targets.detection.tables import LevelMap

_LARGEST_STRIDE = 256
"""Larger strides are none of a detector's."""


def level_maps(outputs: Outputs, boxes: Span, columns: int) -> tuple[LevelMap, ...] | None:
    """Return the grids of the levels that some columns come from, in their order; None if one is not known.

    Args:
        outputs: the model.
        boxes: the columns, or a whole output.
        columns: how many columns each candidate has.
    """
    maps = [_level_map(outputs, origin, columns) for origin in origins(outputs.graph, boxes)]
    known = [one for one in maps if one is not None]
    return tuple(known) if known and len(known) == len(maps) else None


def _level_map(outputs: Outputs, origin: Span, columns: int) -> LevelMap | None:
    """Return the grid of a map that columns come from, None if it is none of the picture."""
    shape, sides = outputs.shape(origin.name), outputs.sides
    if len(shape) != 4 or sides is None:
        return None
    for height, width in ((2, 3), (1, 2)):
        channels = shape[1 if height == 2 else 3]
        rows, cells = shape[height], shape[width]
        if not isinstance(rows, int) or not isinstance(cells, int) or not isinstance(channels, int):
            continue
        if origin.axis in (height, width) or 0 in (rows, cells):
            continue
        stride = _stride(sides, (cells, rows))
        per_cell = 1 if origin.axis is not None and origin.count == columns else channels // columns
        if stride is not None and per_cell:
            return LevelMap(origin.name, height, width, stride, per_cell)
    return None


def _stride(sides: tuple[int, int], cells: tuple[int, int]) -> int | None:
    """Return the stride of a grid in a picture, each as width and height; None if it has none, or may have several.

    Where the stride does not divide a side, the count of cells is rounded up or down, and several strides give it: of
    these, detectors have the power of two, since each halving of the picture doubles the stride.
    """
    fitting = [stride for stride in range(2, 2 * _LARGEST_STRIDE + 1) if _fits(stride, sides, cells)]
    powers = [stride for stride in fitting if stride.bit_count() == 1]
    divisors = [stride for stride in fitting if all(side % stride == 0 for side in sides)]
    for candidates in (powers, divisors, fitting):
        if candidates:
            return candidates[0] if len(candidates) == 1 and candidates[0] <= _LARGEST_STRIDE else None
    return None


def _fits(stride: int, sides: tuple[int, int], cells: tuple[int, int]) -> bool:
    """Tell whether a grid of this stride has so many cells along each side, rounded up or down."""
    return all(count in (side // stride, -(-side // stride)) for side, count in zip(sides, cells, strict=True))
