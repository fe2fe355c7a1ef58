"""What a detector's own framework says: kept objects by hand, and float64 gradients at a cut. Needs torch.

Each member of a cut is differentiated without the way through the others: in the pass that is differentiated, every
member is a leaf. A tensor that the framework detaches is not detached in a file, and so it is not here.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

from tools.common.matching import Match, matches
from tools.sweep.detector_case import CONF, IOU, Detector, Rows, Table


@dataclass(frozen=True)
class Objects:
    """Objects, best first.

    Attributes:
        candidates, classes: int64 [K].
        probabilities: [K].
        boxes: [K,4], in pixels.
        margin: how close a decision was: the least distance of a probability, or of an overlap, from its threshold.
    """

    candidates: np.ndarray
    classes: np.ndarray
    probabilities: np.ndarray
    boxes: np.ndarray
    margin: float


class _Members(TorchFunctionMode):
    """Keeps every feature map of a pass, and makes some of them leaves, by their place in the order of the pass."""

    def __init__(self, stops: Collection[int]) -> None:
        super().__init__()
        self.stops = stops
        self.tensors: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.detach:
            return args[0]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            return self._kept(result)
        if type(result) in (tuple, list):  # not the named tuples of TopK and Max
            return type(result)(self._kept(one) for one in result)
        return result

    def _kept(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or not value.requires_grad or value.ndim < 3:
            return value
        if len(self.tensors) in self.stops:
            value = value.detach().requires_grad_()
        self.tensors.append(value)
        return value


@dataclass(frozen=True)
class Pass:
    """A pass: the candidates, and every feature map on the way, differentiable."""

    table: Table
    tensors: list[torch.Tensor]


def passed(detector: Detector, dtype: torch.dtype, stops: Collection[int] = ()) -> Pass:
    """Run a copy of the detector in `dtype`, with the feature maps at these places as leaves."""
    module = copy.deepcopy(detector.module).to(dtype).requires_grad_(False)
    for part in module.modules():
        if hasattr(part, "inplace"):
            part.inplace = False
    x = torch.from_numpy(detector.image).to(dtype).requires_grad_(True)
    with _Members(stops) as members:
        table = detector.table(module, x)
    return Pass(table, members.tensors)


# --- objects ----------------------------------------------------------------------------------------------------------


def kept(table: Table, *, overlapping: bool) -> Objects:
    """The objects of a table: one a candidate, of its best class, above the threshold.

    Args:
        table: of a pass; boxes [Q,4].
        overlapping: keep boxes of one class that overlap; else, going from the best down, one that overlaps a kept one
            of its class by more than the threshold is dropped.
    """
    p, boxes = (values.detach().numpy() for values in (table.probabilities, table.boxes))
    classes, best = p.argmax(1), p.max(1)
    margin = float(np.abs(best - CONF).min())
    chosen: list[int] = []
    for candidate in np.argsort(-best, kind="stable").tolist():
        if not best[candidate] > CONF:
            break
        rivals = [] if overlapping else [one for one in chosen if classes[one] == classes[candidate]]
        overlaps = _overlaps(boxes[candidate], boxes[rivals])
        margin = min([margin, *np.abs(overlaps - IOU).tolist()])
        if not (overlaps > IOU).any():
            chosen.append(candidate)
    places = np.array(chosen, np.int64)
    return Objects(places, classes[places], best[places], boxes[places], margin)


def of_rows(rows: Rows) -> Objects:
    """The objects among the rows that a file has picked: those above the threshold."""
    order = np.argsort(-rows.probabilities, kind="stable")
    order = order[rows.probabilities[order] > CONF]
    margin = float(np.abs(rows.probabilities - CONF).min())
    return Objects(order, rows.classes[order], rows.probabilities[order], rows.boxes[order], margin)


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box [4] with others [R,4]."""
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    shared = np.clip(high - low, 0, None).prod(1)
    areas = [(one[..., 2:] - one[..., :2]).prod(-1) for one in (box, others)]
    overlaps: np.ndarray = shared / np.maximum(areas[0] + areas[1] - shared, 1e-12)
    return overlaps


def cell_of_row(table: Table, objects: Objects, index: int, side: float) -> tuple[int, float]:
    """The candidate behind a row, found by its box and probability, and how far off both are.

    Args:
        table: of a pass.
        objects: the rows.
        index: which of them.
        side: of the picture; boxes are compared relative to it.
    """
    of_class = int(objects.classes[index])
    p, boxes = (values.detach().numpy() for values in (table.probabilities, table.boxes))
    boxes = boxes[:, of_class] if boxes.ndim == 3 else boxes
    off = np.abs(p[:, of_class] - objects.probabilities[index])
    off = off + np.abs(boxes - objects.boxes[index]).max(1) / side
    return int(off.argmin()), float(off.min())


# --- gradients --------------------------------------------------------------------------------------------------------


def members(found: Pass, activations: Sequence[np.ndarray]) -> list[Match | None]:
    """For each layer the first feature map that holds its activations; None where none does.

    The first: all that holds the same values, permuted or reshaped, is made of it.
    """
    tensors = [tensor.detach().numpy() for tensor in found.tensors]
    return [min(close, key=lambda one: one.index) if (close := matches(tensors, a)) else None for a in activations]


def gradients(detector: Detector, dtype: torch.dtype, at: Sequence[Match], cells: np.ndarray) -> list[np.ndarray]:
    """The gradient of the score of each cell (candidate, class), int64 [K,2], at each member: float64 [K,...]."""
    found = passed(detector, dtype, {one.index for one in at})
    leaves = [found.tensors[one.index] for one in at]
    columns = []
    for candidate, of_class in cells.tolist():
        score = found.table.scores[candidate, of_class]
        some = torch.autograd.grad(score, leaves, retain_graph=True, allow_unused=True)
        columns.append(
            [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(some, leaves, strict=True)],
        )
    return [
        np.concatenate([one.to_layer(column[j].double().numpy()) for column in columns]) for j, one in enumerate(at)
    ]
