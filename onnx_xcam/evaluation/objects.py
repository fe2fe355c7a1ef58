"""This module measures maps of single objects: on the object's own pixels, on other objects, and on its mark.

Which annotated object a detected one is, is decided as benchmarks of detectors decide it (Everingham et al., "The
Pascal Visual Object Classes Challenge", 2010): it is the one of the class whose box overlaps most, and by at least half
(intersection over union). The baselines are maps that know nothing but the box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import TruthError
from onnx_xcam.evaluation.annotations import Box
from onnx_xcam.evaluation.truth import Truth, energy_inside, marked, pointing_game, score_against, within_boxes
from onnx_xcam.explainer.places import overlap

LEAST_OVERLAP = 0.5
"""The least intersection over union of a detected box and the annotated one that it stands for."""
BASELINES = BOX, GAUSSIAN = ("box", "gaussian")
"""The maps that are made of the object's box alone: the box, filled, and a Gaussian in it."""
_SIGMA = 1 / 4
"""The sigma of the Gaussian, as a part of the box's width and height."""
_THINNEST = 1e-3
"""The least sigma in pixels, since a model may tell a box without any area."""


@dataclass(frozen=True, eq=False)
class ObjectTruth:
    """An ObjectTruth says where in a photo an object, the others and the object's mark are.

    Attributes:
        own: bool [H,W]: the object's own pixels.
        others: bool [H,W]: those of all other annotated objects that are not the object's own; None without others.
        mark: bool [H,W]: those of the mark that decides its class; None where none is stated.
    """

    own: NDArray[np.bool_]
    others: NDArray[np.bool_] | None
    mark: NDArray[np.bool_] | None


def object_truth(
    truth: Truth,
    photo: str | Path,
    size: tuple[int, int],
    box: NDArray[np.floating],
    *,
    class_id: int,
    label: str | None,
) -> ObjectTruth | None:
    """Return what is known of a detected object, or None where no annotated one is what was detected.

    Args:
        truth: the annotations.
        photo: the photo, as it was given to `load_truth`.
        size: the upright photo's height and width.
        box: the detected box x1, y1, x2, y2 in the photo's pixels, [4].
        class_id, label: the class that is explained.

    Raises:
        TruthError: the annotation does not fit the photo, or does not tell objects apart.
    """
    annotation = truth.annotation(photo, size)
    if annotation is None:
        return None
    where = f"{annotation.source}: {Path(photo).name}"
    if annotation.mask is not None:
        raise TruthError(f"{where}: a mask of the whole photo does not tell its objects apart; state a box of each")
    boxes = [one for one in annotation.boxes if truth.is_of(one, class_id, label)]
    own = found(box, boxes)
    if own is None:
        return None
    pixels = marked([own], size, where)
    rest = [one for one in annotation.boxes if one is not own]
    return ObjectTruth(
        own=pixels,
        others=marked(rest, size, where) & ~pixels if rest else None,
        mark=None if own.mark is None else within_boxes([_box_of_mark(own)], size, where),
    )


def found(box: NDArray[np.floating], boxes: list[Box]) -> Box | None:
    """Return the annotated box that a detected one, [4], overlaps most; None if it overlaps none by half."""
    if not boxes:
        return None
    overlaps = overlap(box.astype(np.float64), np.array([one.edges for one in boxes], np.float64))
    best = int(overlaps.argmax())
    return boxes[best] if overlaps[best] >= LEAST_OVERLAP else None


def score_object(heatmap: NDArray[np.floating], truth: ObjectTruth) -> dict[str, float]:
    """Return the metrics of a map [H,W] of one object by name; those of others and of the mark only where these are.

    The pointing game has no tolerance here: marks and small objects are smaller than the 15 pixels of the paper.

    Raises:
        InputError: as `score_against`.
    """
    score = score_against(heatmap, truth.own, tolerance=0)
    metrics = {
        "pointing": float(score.hit),
        "pointing_centre": float(score.centre_hit),
        "energy": score.energy,
        "object_share": score.object_share,
    }
    if truth.others is not None:
        metrics["energy_others"] = energy_inside(heatmap, truth.others) if truth.others.any() else 0.0
    if truth.mark is not None:
        metrics["mark_pointing"] = float(pointing_game(heatmap, truth.mark, tolerance=0))
        metrics["mark_energy"] = energy_inside(heatmap, truth.mark)
    return metrics


def baseline(name: str, box: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the map of a baseline, float32 [H,W], values 0..1.

    Args:
        name: one of `BASELINES`.
        box: x1, y1, x2, y2 in pixels of the model's input, [4].
        size: height and width of the input. The part of a box beyond it is left out.
    """
    x1, y1, x2, y2 = box.astype(np.float64)
    along = [_profile(name, *edges, length) for edges, length in (((y1, y2), size[0]), ((x1, x2), size[1]))]
    return np.multiply.outer(*along).astype(np.float32)


def _profile(name: str, start: float, end: float, length: int) -> NDArray[np.float64]:
    """Return the values of a baseline along one axis, at the centres of its pixels."""
    centres = np.arange(length) + 0.5
    if name == BOX:
        return ((centres >= start) & (centres < end)).astype(np.float64)
    sigma = max((end - start) * _SIGMA, _THINNEST)
    result: NDArray[np.float64] = np.exp(-0.5 * np.square((centres - (start + end) / 2) / sigma))
    return result


def _box_of_mark(box: Box) -> Box:
    assert box.mark is not None
    x0, y0, x1, y1 = box.mark
    return replace(box, x0=x0, y0=y0, x1=x1, y1=y1, mask=None, mark=None)
