"""This module measures faithfulness: whether the confidence changes as a map predicts when the picture is perturbed.

    insertion   area under the confidence while pixels come back to a blurred picture, most relevant first
    deletion    area under the confidence while pixels are taken away              (Petsiuk et al., RISE, BMVC 2018)
    drop        max(0, Y - O) / Y, Y the confidence in the picture and O in the picture times the map
    increase    1 where O > Y, else 0               (Chattopadhay et al., Grad-CAM++, WACV 2018: averages over pictures)
    road        half of what the confidence is higher when the least relevant pixels are imputed than when the most
                relevant are, on average over 10 % to 90 % of the pixels                 (Rong et al., ICML 2022)

Every map is ranked by its values before the ReLU, so that the pixels a picture of it shows as zero have an order too.
Equal values are ranked in a random order that is the same for all maps, so that they are not taken away row by row.
Pixels that are taken away get the picture's own mean colour. docs/evaluation.md has the definitions in full and says
which parts are our choice.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.images.impute import impute
from onnx_xcam.runtime.batching import changed_pictures_per_run

Array: TypeAlias = NDArray[np.float32]
Predict: TypeAlias = Callable[[NDArray[Any]], Array]
"""A function that returns confidences float32 [B,K] of a batch [B,...] as the model's input takes it."""
Background = Literal["mean", "zero"]
"""What replaces the pixels that are taken away: the picture's own mean colour, or the zero of the model's input."""

INSERTION, DELETION, DROP, INCREASE, ROAD = METRICS = ("insertion", "deletion", "drop", "increase", "road")
MOST, LEAST = "road_most", "road_least"
ROAD_PARTS = tuple(n / 10 for n in range(1, 10))
"""The parts of the pixels that ROAD imputes, one after the other."""
STEPS = 16
"""The number of steps of a curve; more steps make the area more exact, at a cost that is proportional to them."""
_NOISE = 0.01
"""The noise on imputed pixels, as a part of the picture's standard deviation, which is about 1 in the publication."""
_BLUR_WINDOW, _BLUR_SIGMA = 11 / 224, 5 / 224
"""The blur's window and sigma, as parts of the height or width: RISE uses 11 and 5 pixels of 224."""


@dataclass(frozen=True)
class Faithfulness:
    """A Faithfulness holds the metrics and curves of one map, measured by perturbing the picture.

    Attributes:
        metrics: the metrics that were asked for, by name; None where one is not defined.
        curves: the confidences along "insertion" and "deletion" (steps + 1 values), "road_most" and "road_least" (a
            value for each of `ROAD_PARTS`).
    """

    metrics: dict[str, float | None]
    curves: dict[str, list[float]] = field(default_factory=dict)


def faithfulness(
    predict: Predict,
    item: NDArray[Any],
    maps: Array,
    columns: Sequence[int],
    *,
    channels_last: bool,
    metrics: Collection[str] = METRICS,
    steps: int = STEPS,
    batch: int = 8,
    background: Background = "mean",
    seed: int = 0,
) -> list[Faithfulness]:
    """Measure the faithfulness of several maps of one picture.

    Args:
        predict: the model's confidences, as a function of pictures.
        item: the picture as the model's input takes it, without the batch axis: [C,H,W] or [H,W,C], float or integer.
        maps: float32 [M,H,W] at the input's resolution, before the ReLU. One that is not finite has no metrics.
        columns: M indices into the K confidences: the class of each map.
        channels_last: whether the item is [H,W,C].
        metrics: the names of the metrics to measure, among `METRICS`.
        steps: the number of steps of the curves.
        batch: the largest number of pictures that `predict` is given; large pictures come in smaller batches.
        background: what replaces the pixels that are taken away.
        seed: the seed of the noise and of the order of equal values.

    Returns:
        M results, one for each map.
    """
    canvas = _Canvas(item, channels_last, background)
    random = np.random.default_rng(seed)
    shuffled = random.permutation(canvas.original[0].size)
    noise = random.normal(0, _NOISE * canvas.original.std(), canvas.original.shape)
    shared = _Shared(canvas, noise.astype(np.float32), steps)
    whole, away, blurred = predict(canvas.as_fed([canvas.original, canvas.away, shared.blurred]))
    jobs: dict[tuple[int, bytes], _Job] = {}  # methods that give the same map, as they do at last layers, share a job
    keys = [(column, one.tobytes()) for one, column in zip(maps, columns, strict=True)]
    for one, key in zip(maps, keys, strict=True):
        column = key[0]
        job = jobs.setdefault(key, _Job(one, column, float(whole[column]), {}))
        if job.is_usable and DELETION in metrics:
            job.curves[DELETION] = _ends(whole[column], away[column], steps)
        if job.is_usable and INSERTION in metrics:
            job.curves[INSERTION] = _ends(blurred[column], whole[column], steps)
    todo = (
        (picture, job, name, at)
        for job in jobs.values()
        if job.is_usable
        for name, at, picture in _perturbed(shared, job.values, shuffled, metrics)
    )
    _run(predict, canvas, todo, changed_pictures_per_run(item.nbytes, most=batch))
    return [jobs[key].result(metrics) for key in keys]


class _Canvas:
    """A _Canvas holds a picture as float32 [C,H,W], and converts changed pictures to what the model takes."""

    def __init__(self, item: NDArray[Any], channels_last: bool, background: Background) -> None:
        self._dtype, self._last = item.dtype, channels_last
        self.original: Array = np.ascontiguousarray(
            np.moveaxis(item, -1, 0) if channels_last else item, dtype=np.float32
        )
        mean = self.original.mean(axis=(1, 2), keepdims=True, dtype=np.float64).astype(np.float32)
        colour = mean if background == "mean" else np.zeros_like(mean)
        self.away: Array = np.broadcast_to(colour, self.original.shape)

    def as_fed(self, pictures: Sequence[Array]) -> NDArray[Any]:
        """Convert pictures [C,H,W] to a batch [B,...] in the input's layout and dtype; whole numbers are rounded."""
        batch: NDArray[Any] = np.stack(pictures)
        if self._last:
            batch = np.moveaxis(batch, 1, -1)
        if self._dtype.kind in "iu":
            limits = np.iinfo(self._dtype)
            batch = np.clip(np.rint(batch, out=batch), limits.min, limits.max, out=batch)
        return np.ascontiguousarray(batch, dtype=self._dtype)


@dataclass
class _Shared:
    """A _Shared holds what the perturbations of all maps of a picture share: noise, steps and the blurred picture."""

    canvas: _Canvas
    noise: Array
    steps: int

    @functools.cached_property
    def blurred(self) -> Array:
        """Return the blurred picture, float32 [C,H,W]."""
        height, width = self.canvas.original.shape[1:]
        return np.asarray(_blur(height) @ self.canvas.original @ _blur(width).T, np.float32)

    @functools.cached_property
    def channels_last(self) -> Array:
        """Return the picture as imputing takes it, float32 [H,W,C]."""
        return np.ascontiguousarray(self.canvas.original.transpose(1, 2, 0))

    def imputed(self, missing: NDArray[np.bool_]) -> Array:
        """Return the picture with the missing pixels [H,W] filled in, float32 [C,H,W]."""
        filled = impute(self.channels_last, missing).transpose(2, 0, 1)
        result: Array = np.where(missing, filled + self.noise, filled)
        return result


@dataclass
class _Job:
    """A _Job collects the confidences that the metrics of one map need.

    Attributes:
        values: the map, [H,W].
        column: the class, as an index into the confidences.
        whole: the confidence in the whole picture.
        curves: the confidences of each curve by name; `DROP` has the one in the picture times the map.
    """

    values: Array
    column: int
    whole: float
    curves: dict[str, Array]

    @property
    def is_usable(self) -> bool:
        """Tell whether all values of the map are finite."""
        return bool(np.isfinite(self.values).all())

    def put(self, name: str, at: int, value: float) -> None:
        """Store the confidence at a point of a curve."""
        if name not in self.curves:
            self.curves[name] = np.full(1 if name == DROP else len(ROAD_PARTS), np.nan, np.float32)
        self.curves[name][at] = value

    def result(self, metrics: Collection[str]) -> Faithfulness:
        """Compute the metrics from the confidences, in the order of `METRICS`."""
        values: dict[str, float | None] = {name: None for name in METRICS if name in metrics}
        curves = self.curves
        for name in (INSERTION, DELETION):
            if name in curves:
                values[name] = _area(curves[name])
        if DROP in curves:
            now = float(curves[DROP][0])
            known = math.isfinite(self.whole) and math.isfinite(now)
            both = {DROP: max(0.0, self.whole - now) / self.whole if known and self.whole > 0 else None}
            both[INCREASE] = float(now > self.whole) if known else None
            values |= {name: value for name, value in both.items() if name in metrics}
        if MOST in curves:
            values[ROAD] = float((curves[LEAST] - curves[MOST]).mean(dtype=np.float64)) / 2
        finite = {n: v if v is not None and math.isfinite(v) else None for n, v in values.items()}
        return Faithfulness(finite, {name: curve.tolist() for name, curve in curves.items() if name != DROP})


def _ends(first: float, last: float, steps: int) -> Array:
    """Return a curve with known ends, and NaN in between."""
    curve = np.full(steps + 1, np.nan, np.float32)
    curve[0], curve[-1] = first, last
    return curve


def _area(curve: Array) -> float:
    """Return the area under a curve over 0..1 by the trapezoidal rule; NaN if a value is not finite."""
    values = curve.astype(np.float64)
    if not np.isfinite(values).all():
        return math.nan
    return float((values.sum() - (values[0] + values[-1]) / 2) / (len(values) - 1))


def _perturbed(
    shared: _Shared, values: Array, shuffled: NDArray[np.intp], metrics: Collection[str]
) -> Iterator[tuple[str, int, Array]]:
    """Yield the perturbed pictures for one map, [C,H,W], each after its curve's name and the index of its point."""
    canvas = shared.canvas
    if DROP in metrics or INCREASE in metrics:
        yield DROP, 0, canvas.away + _scaled(values) * (canvas.original - canvas.away)
    if not {INSERTION, DELETION, ROAD}.intersection(metrics):
        return
    ranks = _ranks(values, shuffled)
    size, steps = ranks.size, shared.steps
    for step in range(1, steps):
        first = ranks < round(step / steps * size)
        if DELETION in metrics:
            yield DELETION, step, np.where(first, canvas.away, canvas.original)
        if INSERTION in metrics:
            yield INSERTION, step, np.where(first, canvas.original, shared.blurred)
    if ROAD in metrics:
        for at, part in enumerate(ROAD_PARTS):
            count = round(part * size)
            yield MOST, at, shared.imputed(ranks < count)
            yield LEAST, at, shared.imputed(ranks >= size - count)


def _ranks(values: Array, shuffled: NDArray[np.intp]) -> NDArray[np.int32]:
    """Rank the pixels, int32 [H,W], 0 for the most relevant one; equal values are ranked in the shuffled order."""
    order = shuffled[np.argsort(-values.ravel()[shuffled], kind="stable")]
    ranks = np.empty(values.size, np.int32)
    ranks[order] = np.arange(values.size, dtype=np.int32)
    return ranks.reshape(values.shape)


def _scaled(values: Array) -> Array:
    """Scale a map as it is shown, to float32 [H,W] in 0..1: ReLU, then (x - min) / (max - min).

    A map that is the same everywhere becomes 1 if it is positive, else 0.
    """
    shown = np.maximum(values, 0)
    low, high = float(shown.min()), float(shown.max())
    if high > low:
        return np.asarray((shown - low) / (high - low), np.float32)
    return np.full_like(shown, 1.0 if high > 0 else 0.0)


@functools.lru_cache(maxsize=8)
def _blur(length: int) -> Array:
    """Return a Gaussian blur along an axis as a matrix, float32 [length,length]; it mirrors at the edges."""
    reach = max(1, round(_BLUR_WINDOW * length) // 2)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / (_BLUR_SIGMA * length)) ** 2)
    matrix = np.zeros((length, length))
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        source = np.arange(length) + offset
        source = np.where(source < 0, -1 - source, np.where(source >= length, 2 * length - 1 - source, source))
        np.add.at(matrix, (np.arange(length), np.clip(source, 0, length - 1)), weight)
    result = matrix.astype(np.float32)
    result.flags.writeable = False  # the cache returns it again
    return result


def _run(predict: Predict, canvas: _Canvas, todo: Iterator[tuple[Array, _Job, str, int]], batch: int) -> None:
    """Run the model on all pictures, at most `batch` at a time, and store the confidences in their jobs."""
    while waiting := [one for _, one in zip(range(batch), todo, strict=False)]:
        confidences = predict(canvas.as_fed([one[0] for one in waiting]))
        for row, (_, job, name, at) in zip(confidences, waiting, strict=True):
            job.put(name, at, float(row[job.column]))
