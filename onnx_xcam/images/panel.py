"""This module draws a panel: a table of pictures with texts, as one picture."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_xcam.images import fonts
from onnx_xcam.images.backend import opencv, pillow
from onnx_xcam.images.pixels import ImageRGB
from onnx_xcam.text import printable

CELL = 224
"""The longer side of a picture in a panel, in pixels."""
_TEXT, _HEADING, _GAP = 13, 16, 10
"""The sizes of the two fonts and of the gaps, in pixels."""
_LINE = 17
"""The height of a line below a picture, in pixels."""
_INK, _FAINT, _PAPER = (20, 20, 20), (110, 110, 110), (255, 255, 255)
"""The RGB colours of headings, of lines below pictures, and of the background."""


@dataclass(frozen=True)
class Cell:
    """A Cell is a picture and what is written below it.

    Attributes:
        image_rgb: uint8 [H,W,3] of any size.
        lines: the lines below the picture; each is cut at the width of a column.
    """

    image_rgb: ImageRGB
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """A Row of a panel has a heading above it, and its cells."""

    heading: str
    cells: Sequence[Cell]


def panel(heading: str, columns: Sequence[str], rows: Sequence[Row]) -> ImageRGB:
    """Draw a table of pictures and return it as uint8 [H,W,3] RGB.

    Args:
        heading: what is written at the top.
        columns: what is written above each column.
        rows: at least one row; each has a cell for every column.
    """
    image_module = pillow()
    draw_module = importlib.import_module("PIL.ImageDraw")
    cells = [[_fitted(cell.image_rgb) for cell in row.cells] for row in rows]
    width = max(image.shape[1] for row in cells for image in row)
    step = width + _GAP
    below = max(len(cell.lines) for row in rows for cell in row.cells) * _LINE + _GAP
    heights = [max(image.shape[0] for image in row) for row in cells]
    top = _GAP + 2 * _HEADING + _LINE + _GAP
    total = top + sum(_HEADING + _GAP + height + below for height in heights)
    canvas = image_module.new("RGB", (_GAP + len(columns) * step, total), _PAPER)
    draw = draw_module.Draw(canvas)

    whole = len(columns) * step - _GAP

    def write(x: int, y: int, text: str, *, large: bool = False, ink: tuple[int, int, int] = _INK) -> None:
        font = fonts.font_of(text, _HEADING if large else _TEXT)
        draw.text((x, y), fonts.shortened(printable(text), font, whole if large else width), fill=ink, font=font)

    write(_GAP, _GAP, heading, large=True)
    for n, column in enumerate(columns):
        write(_GAP + n * step, _GAP + 2 * _HEADING, column)
    y = top
    for row, images, height in zip(rows, cells, heights, strict=True):
        write(_GAP, y, row.heading, large=True)
        y += _HEADING + _GAP
        for n, (cell, image) in enumerate(zip(row.cells, images, strict=True)):
            canvas.paste(image_module.fromarray(image), (_GAP + n * step, y))
            for at, line in enumerate(cell.lines):
                write(_GAP + n * step, y + height + 4 + at * _LINE, line, ink=_FAINT)
        y += height + below
    return np.asarray(canvas)


def _fitted(image_rgb: ImageRGB) -> ImageRGB:
    """Resize a picture so that its longer side has `CELL` pixels."""
    height, width = image_rgb.shape[:2]
    scale = CELL / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    cv2 = opencv()
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    fitted: ImageRGB = cv2.resize(image_rgb, size, interpolation=how)
    return fitted
