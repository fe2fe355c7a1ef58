"""Whether a score changes along a direction as its gradient says: central differences in float64.

    error = |<G, d> - (S(A + h d) - S(A - h d)) / 2h|, relative to the larger of both and of ||G d||

Kinks do not disturb it: of ten thousand ReLUs about none lies within a step of a millionth. Exact zeros, and values
that are equal, as behind a ReLU or a Clip, stay so along d, which is a random multiple of A, the same for equal values;
a MaxPool that could take either goes on taking either. What the gradient misses, or has in excess, shows at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], float]
"""The score of the class, of the layer's values."""

TOLERANCE = 2e-3
"""How far both may differ; G is float32."""
HALF_TOLERANCE = 3e-2
"""The same where G has been float16 on the way, or ONNX Runtime rounds activations beside weights of few bits."""
FAR, FAR_BY_STEPS = 1.0, 0.3
"""By how much of what the gradient says a score may change otherwise over a step of a hundredth, and where operators go
by steps. Networks with kinks and curves were measured to stay below 0.13."""
_FINE = (1e-6, 1e-5, 1e-7, 1e-4, 1e-3)
"""Steps, relative to the values; the next one is tried where the difference is too large, up to where kinks matter."""
_COARSE = 1e-2
_DIRECTIONS = 2
"""How many random directions are tried, beside the one in which all parts of <G, d> add up."""
_MOST = 1e6
"""An error that is as large as this, or no number, is told as this."""
_DIGITS = 256 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Slope:
    """How a score changes, and how its gradient says it does.

    Attributes:
        says, does: by the gradient and by the score, along the direction in which they differ most.
        error: the relative error along it.
        large_step: the same three over a step of a hundredth of the values, along the direction with the largest error.
        tolerance: of the error.
    """

    says: float
    does: float
    error: float
    large_step: tuple[float, float, float]
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Whether the score changes as the gradient says."""
        return self.error <= self.tolerance


def slope_of(
    score: Score,
    values: Array,
    gradient: Array,
    moved: Array,
    rng: np.random.Generator,
    *,
    tolerance: float = TOLERANCE,
) -> Slope:
    """The worst of several directions.

    Args:
        score: of the class; run four times for each direction, more often where it seems wrong.
        values: A.
        gradient: d score / d A, of its shape.
        moved: A as well, with zeros where nothing is to be tried.
        rng: of the directions.
        tolerance: of the error.
    """
    fine: list[tuple[float, float, float]] = []
    large: list[tuple[float, float, float]] = []
    for direction in _directions(moved, gradient, rng):
        products = gradient * direction
        says = float(products.sum())
        size = max(abs(says), float(np.sqrt((products**2).sum())))

        def central(step: float, direction: Array = direction) -> tuple[float, float]:
            """The central difference, and how much of it the last digits of the scores may be."""
            ahead, behind = (score(values + sign * step * direction) for sign in (1, -1))
            return (ahead - behind) / (2 * step), _DIGITS * max(abs(ahead), abs(behind)) / step

        fine.append((says, *_fine(central, says, size, tolerance)))
        far, digits = central(_COARSE)
        large.append((says, far, _error(says, far, digits, size)))
    says, does, error = max(fine, key=lambda one: one[2])
    return Slope(says, does, error, max(large, key=lambda one: one[2]), tolerance)


def _directions(values: Array, gradient: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Random multiples of the values, the same for equal values; last those by which all parts of <G, d> add up."""
    equal, index = np.unique(values, return_inverse=True)
    index = index.reshape(-1)
    drawn = [rng.standard_normal(len(equal)) for _ in range(_DIRECTIONS)]
    signs = np.sign(np.bincount(index, (gradient * values).reshape(-1), len(equal)))
    for multiples in (*drawn, np.abs(drawn[0]) * signs):
        yield np.asarray(values * multiples[index].reshape(values.shape))


def _fine(
    central: Callable[[float], tuple[float, float]], says: float, size: float, tolerance: float
) -> tuple[float, float]:
    """What the score does, and the relative error, by the step at which it is least."""
    best = (0.0, _MOST)
    for step in _FINE:
        does, digits = central(step)
        best = min(best, (does, _error(says, does, digits, max(size, abs(does)))), key=lambda one: one[1])
        if best[1] <= tolerance:
            break
    return best


def _error(says: float, does: float, digits: float, size: float) -> float:
    """How far both differ by more than the last digits, as a multiple of a size."""
    off = abs(says - does) - digits
    if not np.isfinite(off):
        return _MOST
    return min(off / max(size, float(np.finfo(np.float64).tiny)), _MOST) if off > 0 else 0.0


def of_first_image(values: NDArray[Any], axis: int, shape: tuple[int, ...]) -> Array:
    """Values of the first image as those of all images, with zeros for the others.

    Args:
        values: of the first image, without the axis of images.
        axis: that axis.
        shape: of all images.
    """
    whole = np.zeros(shape)
    np.moveaxis(whole, axis, 0)[0] = values
    return whole
