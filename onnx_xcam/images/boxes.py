"""This module draws the boxes of objects, with their classes and probabilities, over photos and overlays.

Lines and letters grow with the picture. A line runs around its box, so that what is in the box is seen. A label stands
beside its box, never outside the picture; where there is no place for all of it that another label has not taken, its
number stands alone. Pictures that are too small for letters are enlarged first, each pixel to a square of pixels.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from onnx_xcam.images import fonts
from onnx_xcam.images.backend import pillow
from onnx_xcam.images.channels import GRAY_WEIGHTS
from onnx_xcam.images.pixels import ImageRGB

Colour = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels of the picture that is drawn."""

COLOURS: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 178, 130),
    (240, 228, 66),
    (232, 100, 30),
    (214, 130, 190),
    (60, 130, 230),
    (180, 220, 120),
    (170, 140, 255),
    (255, 160, 150),
)
"""The colours of the classes, in turn; the first seven are near Okabe and Ito's, told apart by the colour-blind."""
_CHOSEN: Colour = (255, 255, 255)
_EDGE: Colour = (0, 0, 0)
_INKS: tuple[Colour, Colour] = ((0, 0, 0), (255, 255, 255))
_SMALL, _ENLARGED, _LONGEST = 200, 320, 1600
"""A picture with a shorter side below the first number is enlarged, to at least the second, within the third."""
_LEAST_FONT, _FONT_PART, _LINE_PART = 12, 45, 320
"""Letters have at least so many pixels, and are a part of the shorter side; so are lines."""
_CROWD = 12
"""More boxes than this have smaller labels."""
_OTHERS = 0.75
"""The opacity of the lines of boxes that are not the chosen one."""
_EDGE_OPACITY = 0.7
"""The opacity of the dark edges on both sides of a line."""
_LIGHT = 110
"""On paper that is lighter than this, letters are black."""
_GAP = "  "
"""What stands between the parts of a label."""
_COVERED = 0.35
"""A label should not cover more than this part of another box."""


@dataclass(frozen=True)
class DrawnBox:
    """A DrawnBox is an object to draw.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the photo, counted from its upper left edge; None, or not finite, where it is
            not known. It may reach beyond the photo.
        label: the name of its class; one that no font at hand can write becomes `class 15`.
        class_id: the number of its class, which chooses its colour.
        p: its probability; None where it is not known.
        number: its rank from 1, which stands before the name; None for no number.
    """

    box: tuple[float, float, float, float] | None
    label: str
    class_id: int = 0
    p: float | None = None
    number: int | None = None


def draw_boxes(image_rgb: ImageRGB, boxes: Sequence[DrawnBox], *, chosen: int | None = None) -> ImageRGB:
    """Draw boxes into a copy of a picture and return it as [H,W,3] uint8 RGB, larger where the picture is very small.

    Args:
        image_rgb: a photo or an overlay, [h,w,3] uint8; never changed.
        boxes: what is drawn, in pixels of this picture; smaller boxes over larger ones, labels over all.
        chosen: the place in `boxes` of the one that the picture is about: it alone is bold and has a label, the others
            are thin. None draws all alike, in the colours of their classes, each with its label.

    Raises:
        IndexError: there is no box of the chosen place.
    """
    if chosen is not None and not 0 <= chosen < len(boxes):
        raise IndexError(f"there is no box {chosen} of {len(boxes)}")
    scale = _enlargement(image_rgb.shape[:2])
    canvas = np.repeat(np.repeat(image_rgb, scale, 0), scale, 1) if scale > 1 else image_rgb.copy()
    drawn = [_drawn(one, canvas.shape[:2], scale) for one in boxes]
    thick = max(1, round(min(canvas.shape[:2]) / _LINE_PART))
    for index in sorted(range(len(boxes)), key=lambda n: (n == chosen, -_area(drawn[n]))):
        box = drawn[index]
        if box is None:
            continue
        if chosen is None:
            _frame(canvas, box, thick, _colour(boxes[index]))
        elif index == chosen:
            _frame(canvas, box, 2 * thick, _CHOSEN)
        else:
            _outline(
                canvas, _around(box, max(1, thick // 2), canvas), max(1, thick // 2), _colour(boxes[index]), _OTHERS
            )
    return _with_labels(canvas, _layout(boxes, drawn, chosen, (canvas.shape[0], canvas.shape[1])))


def _enlargement(size: tuple[int, ...]) -> int:
    """Return by which whole factor a picture of (height, width) is enlarged."""
    short, long = min(size), max(size)
    if short >= _SMALL or short == 0:
        return 1
    return max(1, min(math.ceil(_ENLARGED / short), _LONGEST // long))


def _drawn(one: DrawnBox, size: tuple[int, ...], scale: int) -> Rectangle | None:
    """Return a box in the picture that is drawn, within it and with an area; None where it is not known."""
    if one.box is None or not np.isfinite(one.box).all():
        return None
    height, width = size
    x1, y1, x2, y2 = (float(value) * scale for value in one.box)
    left, right = (round(min(max(x, 0.0), float(width))) for x in sorted((x1, x2)))
    top, bottom = (round(min(max(y, 0.0), float(height))) for y in sorted((y1, y2)))
    left, top = min(left, width - 1), min(top, height - 1)
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _area(box: Rectangle | None) -> int:
    """Return how many pixels a box has."""
    return 0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def _colour(one: DrawnBox) -> Colour:
    """Return the colour of a class."""
    return COLOURS[one.class_id % len(COLOURS)]


def _frame(image: ImageRGB, box: Rectangle, thick: int, colour: Colour) -> None:
    """Draw the outline of a box in place: a line around the box, with a thin dark edge on both sides of it."""
    edge = max(1, thick // 3)
    _outline(image, _around(box, thick + 2 * edge, image), thick + 2 * edge, _EDGE, _EDGE_OPACITY)
    _outline(image, _around(box, thick + edge, image), thick, colour, 1.0)


def _around(box: Rectangle, by: int, image: ImageRGB) -> Rectangle:
    """Return a box that is larger by some pixels to each side, as far as the picture reaches."""
    height, width = image.shape[:2]
    return max(0, box[0] - by), max(0, box[1] - by), min(width, box[2] + by), min(height, box[3] + by)


def _outline(image: ImageRGB, box: Rectangle, thick: int, colour: Colour, opacity: float) -> None:
    """Draw four lines within a box in place; the box lies in the picture."""
    x1, y1, x2, y2 = box
    thick = min(thick, (x2 - x1 + 1) // 2, (y2 - y1 + 1) // 2)
    top, bottom = y1 + thick, max(y1 + thick, y2 - thick)
    lines = (
        image[y1:top, x1:x2],
        image[bottom:y2, x1:x2],
        image[top:bottom, x1 : x1 + thick],
        image[top:bottom, max(x1 + thick, x2 - thick) : x2],
    )
    for line in lines:
        line[...] = np.rint(line * (1 - opacity) + np.multiply(colour, opacity))


class _Label(NamedTuple):
    """A _Label is a text in its font, and the size (width, height) of the rectangle that it is written on."""

    text: str
    font: Any
    size: tuple[int, int]


def _with_labels(canvas: ImageRGB, placed: Sequence[tuple[_Label, Rectangle, Colour]]) -> ImageRGB:
    """Return a picture with labels, each on paper of a colour."""
    image = pillow().fromarray(canvas)
    draw = importlib.import_module("PIL.ImageDraw").Draw(image)
    for label, (x1, y1, x2, y2), paper in placed:
        draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=paper, outline=_EDGE)
        ink = _INKS[0] if np.dot(paper, GRAY_WEIGHTS) > _LIGHT else _INKS[1]
        draw.text(((x1 + x2) / 2, (y1 + y2) / 2), label.text, fill=ink, font=label.font, anchor="mm")
    return np.asarray(image).copy()


def _layout(
    boxes: Sequence[DrawnBox], drawn: Sequence[Rectangle | None], chosen: int | None, picture: tuple[int, int]
) -> list[tuple[_Label, Rectangle, Colour]]:
    """Return the labels of all boxes, or of the chosen one: what stands where, and the colour of its paper.

    Args:
        boxes: the objects.
        drawn: where they are in the picture.
        chosen: the place of the chosen one, or None.
        picture: (height, width) of the picture.
    """
    labelled = range(len(boxes)) if chosen is None else [chosen]
    size = max(_LEAST_FONT, round(min(picture) / _FONT_PART * (0.8 if len(labelled) > _CROWD else 1.0)))
    result: list[tuple[_Label, Rectangle, Colour]] = []
    for index in labelled:
        others = [box for n, box in enumerate(drawn) if box is not None and n != index] if chosen is None else []
        taken = [place for _, place, _ in result]
        found = _placed(_labels(boxes[index], size, picture), drawn[index], picture, taken, others)
        if found is not None:
            result.append((*found, _CHOSEN if index == chosen else _colour(boxes[index])))
    return result


def _placed(
    labels: Sequence[_Label],
    box: Rectangle | None,
    picture: tuple[int, int],
    taken: Sequence[Rectangle],
    others: Sequence[Rectangle],
) -> tuple[_Label, Rectangle] | None:
    """Return which label of a box is written, and where; None if there is none.

    Args:
        labels: the longer label of the box and the shorter one, as far as they fit into the picture.
        box: the box, where it is known.
        picture: (height, width) of the picture.
        taken: where labels stand already.
        others: the other boxes, which should not be covered.
    """
    best: tuple[float, _Label, Rectangle] | None = None
    for label in labels:
        for place in _places(box, label.size, picture):
            on_labels = sum(_shared(place, other) for other in taken) / _area(place)
            hidden = max((_shared(place, other) / _area(other) for other in others), default=0.0)
            if on_labels == 0 and hidden <= _COVERED:
                return label, place
            cost = 10 * on_labels + hidden
            if label is labels[-1] and (best is None or cost < best[0]):
                best = cost, label, place
    return None if best is None else best[1:]


def _labels(one: DrawnBox, size: int, picture: tuple[int, int]) -> list[_Label]:
    """Return the label of a box, and a shorter one for where there is no room, as far as they fit into the picture."""
    number = "" if one.number is None else f"{one.number}"
    p = "" if one.p is None or not math.isfinite(one.p) else f"{one.p:.2f}"
    font, name = fonts.written(one.label, size) or (fonts.load(None, size), f"class {one.class_id}")
    pad = max(2, size // 5)
    # Where a name is too long its end is left out, and not the probability behind it.
    room = picture[1] - 2 * pad - sum(font.getlength(part) for part in (number, p, 2 * _GAP))
    full = _GAP.join(part for part in (number, fonts.shortened(name, font, room), p) if part)
    result = []
    for text in dict.fromkeys((full, number or p)):
        extent = math.ceil(font.getlength(text)) + 2 * pad, round(size * 1.15) + pad
        if text and extent[0] <= picture[1] and extent[1] <= picture[0]:
            result.append(_Label(text, font, extent))
    return result


def _places(box: Rectangle | None, size: tuple[int, int], picture: tuple[int, int]) -> list[Rectangle]:
    """Return where a label of (width, height) may stand, best first, all within the picture of (height, width)."""
    w, h = size
    if box is None:  # in the upper left corner, one below the other
        return [(0, y, w, y + h) for y in range(0, picture[0] - h + 1, h)]
    x1, y1, x2, y2 = box
    rows = (y1 - h, y2, y1, y2 - h)
    places = []
    for top in rows:
        for left in (x1, x2 - w):
            x, y = min(max(left, 0), picture[1] - w), min(max(top, 0), picture[0] - h)
            if (x, y, x + w, y + h) not in places:
                places.append((x, y, x + w, y + h))
    return places


def _shared(one: Rectangle, other: Rectangle) -> int:
    """Return how many pixels two rectangles share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return max(0, across) * max(0, down)
