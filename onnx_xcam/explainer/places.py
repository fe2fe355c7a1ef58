"""This module has the places in photos by which objects are chosen, boxes or points, and finds the object of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.arguments import short_repr
from onnx_xcam.errors import InputError
from onnx_xcam.explainer.described import at_box
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.text import printable

LEAST_OVERLAP = 0.1
"""An object covers a box only if their intersection over union is at least this: what merely touches is not meant."""


@dataclass(frozen=True, eq=False)
class Places:
    """A Places holds K boxes or points in each photo.

    Attributes:
        kind: what they are.
        values: boxes x1, y1, x2, y2, float64 [M,K,4], or points x, y, float64 [M,K,2], in the photo's pixels; M is 1,
            for the same places in every photo, or N.
    """

    kind: Literal["box", "point"]
    values: NDArray[np.float64]

    def of_image(self, n: int) -> NDArray[np.float64]:
        """Return the places in the n-th photo, [K,4] or [K,2]."""
        result: NDArray[np.float64] = self.values[n if len(self.values) > 1 else 0]
        return result


@dataclass(frozen=True)
class Kept:
    """A Kept holds the objects that a model keeps in one photo, the best first.

    Attributes:
        candidates: int64 [R].
        boxes: float32 [R,4], x1 y1 x2 y2 in the photo's pixels.
        names: how messages call each object, such as "face p 0.83".
    """

    candidates: NDArray[np.int64]
    boxes: NDArray[np.float32]
    names: Sequence[str]


def read_places(name: str, values: Any, images: int) -> Places:
    """Return the boxes or points that a user gives.

    Args:
        name: "boxes" or "points".
        values: one place, a list of K places for every photo, or N such lists.
        images: N.

    Raises:
        InputError: they are no numbers, not of this form, not finite, or a box has no area.
    """
    length, kind = (4, "box") if name == "boxes" else (2, "point")
    form = "[x1, y1, x2, y2]" if kind == "box" else "[x, y]"
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)
    if array.dtype.kind not in "fiu" or array.ndim not in (1, 2, 3) or array.shape[-1] != length or not array.size:
        raise InputError(f"{name} is {short_repr(values)}; it must be a {kind} {form} in the photo, or a list.")
    places = array.astype(np.float64).reshape((1,) * (3 - array.ndim) + array.shape)
    if len(places) not in (1, images):
        raise InputError(f"{name} are given for {len(places)} photos, but there are {images}.")
    if not np.isfinite(places).all():
        raise InputError(f"{name} holds a number that is not finite.")
    if kind == "box" and (empty := np.argwhere((places[..., 2:] <= places[..., :2]).any(axis=-1))).size:
        shown = at_box(places[tuple(empty[0])])
        raise InputError(f"The box {shown} has no area; give the left, upper, right and lower edge: {form}.")
    return Places("box" if kind == "box" else "point", places)


def found_at(place: NDArray[np.float64], kept: Kept, photo: str) -> int:
    """Return the candidate that covers a place: with the largest intersection over union, or the smallest at a point.

    Args:
        place: a box [4] or a point [2] in the photo's pixels.
        kept: the objects of the photo.
        photo: its name in messages.

    Raises:
        InputError: no object covers the place; the message names the nearest one.
    """
    is_box = len(place) == 4
    what = f"the box {at_box(place)}" if is_box else f"the point {place[0]:g},{place[1]:g}"
    if not len(kept.candidates):
        raise InputError(f"{printable(photo)}: the model keeps no object there, so none covers {what}.")
    boxes = kept.boxes.astype(np.float64)
    if is_box:
        overlaps = overlap(place, boxes)
        if overlaps.max() >= LEAST_OVERLAP:
            return int(kept.candidates[overlaps.argmax()])
        nearest = int(np.argmin(-overlaps if overlaps.max() > 0 else _distances(_centre(place), boxes)))
        least = f"; they overlap by {overlaps[nearest]:.2f}, less than {LEAST_OVERLAP}" if overlaps[nearest] else ""
    else:
        holds = (_distances(place, boxes) == 0).nonzero()[0]
        if holds.size:
            return int(kept.candidates[holds[np.argmin(_areas(boxes[holds]))]])
        nearest, least = int(np.argmin(_distances(place, boxes))), ""
    named = f"{kept.names[nearest]} at {at_box(boxes[nearest])}"
    raise InputError(f"{printable(photo)}: no object covers {what}; the nearest is {named}{least}.")


def overlap(box: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of a box, [4], with each of several, [R,4]: float64 [R]."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    both = np.prod(np.maximum(sides, 0), axis=1)
    union = _areas(boxes) + _areas(box[None]) - both
    shares: NDArray[np.float64] = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return shares


def _areas(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the areas of boxes [R,4]; 0 for one whose edges are the wrong way round."""
    areas: NDArray[np.float64] = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return areas


def _centre(box: NDArray[np.float64]) -> NDArray[np.float64]:
    centre: NDArray[np.float64] = (box[:2] + box[2:]) / 2
    return centre


def _distances(point: NDArray[np.float64], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how far a point, [2], is from each box, [R,4]; 0 within it."""
    beside = np.maximum(np.maximum(boxes[:, :2] - point, point - boxes[:, 2:]), 0)
    distances: NDArray[np.float64] = np.hypot(beside[:, 0], beside[:, 1])
    return distances


def as_text(places: Places) -> str:
    """Return the places of the first photo as a short text, for the settings of a run."""
    return f"{places.kind} " + " ".join(",".join(f"{value:g}" for value in one) for one in places.of_image(0).tolist())


def boxes_in_photos(
    boxes: NDArray[np.float32] | None, objects: NDArray[np.int64] | None, pictures: Sequence[Picture]
) -> NDArray[np.float32] | None:
    """Return boxes [N,K,4] in pixels of the model's input as boxes in the photos; zeros where there is no object."""
    if boxes is None or objects is None:
        return None
    placed = [picture.placement.to_photo(of_image) for picture, of_image in zip(pictures, boxes, strict=True)]
    return np.where(objects[..., None] >= 0, np.stack(placed), np.float32(0))
