"""This module checks by central differences in float64 whether a score changes along a direction as its gradient says.

    error = |<G, d> - (S(A + h d) - S(A - h d)) / 2h|, relative to the larger of both and of ||G d||

Kinks do not disturb the comparison: of ten thousand ReLUs about none lies within a step of a millionth. Exact zeros,
and values that are equal, as behind a ReLU or a Clip, stay so along d, which is a random multiple of A, the same for
equal values; a MaxPool that could take either of two values goes on taking either. What the gradient misses, or has in
excess, is an error at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Score = Callable[[Array], float]
"""A function that returns the score of the class from the layer's values."""

TOLERANCE = 2e-3
"""How far the gradient and the score's change may differ, relatively; G is float32."""
HALF_TOLERANCE = 3e-2
"""The tolerance where parts of G were computed in float16, or ONNX Runtime rounds factors of weights of few bits."""
FAR, FAR_BY_STEPS = 1.0, 0.3
"""How far both may differ over a step of a hundredth, in general and where operators change by steps, before it is a
warning. Networks with kinks and curves were measured to stay below 0.13."""
_FINE = (1e-6, 1e-5, 1e-7, 1e-4, 1e-3)
"""The steps, relative to the values; the next one is tried where the error is too large."""
_COARSE = 1e-2
_DIRECTIONS = 2
"""The number of random directions, besides the one in which all parts of <G, d> have the same sign."""
_MOST = 1e6
"""The largest error that is reported, which also stands for an error that is not finite."""
_DIGITS = 256 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Slope:
    """A Slope compares how a score changes to how its gradient says it does.

    Attributes:
        says, does: the change by the gradient and the score's own, along the direction in which they differ most.
        error: the relative error along that direction.
        large_step: the two changes and the error over a step of a hundredth of the values, along the direction with
            the largest error.
        tolerance: the largest error that passes.
    """

    says: float
    does: float
    error: float
    large_step: tuple[float, float, float]
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Tell whether the score changes as the gradient says."""
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
    """Compare the score's change with its gradient along several directions, and return the worst.

    Args:
        score: the score as a function of the layer's values; called four times for each direction, more often where
            the result seems wrong.
        values: the layer's values A.
        gradient: d score / d A, of the shape of A.
        moved: the values A, with zeros where they stay fixed.
        rng: the source of the directions.
        tolerance: the largest error that passes.
    """
    fine: list[tuple[float, float, float]] = []
    large: list[tuple[float, float, float]] = []
    for direction in _directions(moved, gradient, rng):
        products = gradient * direction
        says = float(products.sum())
        size = max(abs(says), float(np.sqrt((products**2).sum())))

        def central(step: float, direction: Array = direction) -> tuple[float, float]:
            """Return the central difference, and how much of it may come from the last digits of the scores."""
            ahead, behind = (score(values + sign * step * direction) for sign in (1, -1))
            return (ahead - behind) / (2 * step), _DIGITS * max(abs(ahead), abs(behind)) / step

        fine.append((says, *_fine(central, says, size, tolerance)))
        far, digits = central(_COARSE)
        large.append((says, far, _error(says, far, digits, size)))
    says, does, error = max(fine, key=lambda one: one[2])
    return Slope(says, does, error, max(large, key=lambda one: one[2]), tolerance)


def _directions(values: Array, gradient: Array, rng: np.random.Generator) -> Iterator[Array]:
    """Yield directions as multiples of the values, the same for equal values: random ones, then the aligned one.

    Along the aligned direction, all parts of <G, d> have the same sign.
    """
    equal, index = np.unique(values, return_inverse=True)
    index = index.reshape(-1)
    drawn = [rng.standard_normal(len(equal)) for _ in range(_DIRECTIONS)]
    signs = np.sign(np.bincount(index, (gradient * values).reshape(-1), len(equal)))
    for multiples in (*drawn, np.abs(drawn[0]) * signs):
        yield np.asarray(values * multiples[index].reshape(values.shape))


def _fine(
    central: Callable[[float], tuple[float, float]], says: float, size: float, tolerance: float
) -> tuple[float, float]:
    """Return the score's change and the relative error, at the step where the error is least."""
    best = (0.0, _MOST)
    for step in _FINE:
        does, digits = central(step)
        best = min(best, (does, _error(says, does, digits, max(size, abs(does)))), key=lambda one: one[1])
        if best[1] <= tolerance:
            break
    return best


def _error(says: float, does: float, digits: float, size: float) -> float:
    """Return by how much both changes differ beyond the last digits, relative to a size."""
    off = abs(says - does) - digits
    if not np.isfinite(off):
        return _MOST
    return min(off / max(size, float(np.finfo(np.float64).tiny)), _MOST) if off > 0 else 0.0


def of_first_image(values: NDArray[Any], axis: int, shape: tuple[int, ...]) -> Array:
    """Extend values of the first image to all images, with zeros for the others.

    Args:
        values: the values of the first image, without the axis of images.
        axis: the axis of images.
        shape: the shape of the values of all images.
    """
    whole = np.zeros(shape)
    np.moveaxis(whole, axis, 0)[0] = values
    return whole
