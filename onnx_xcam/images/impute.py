"""Missing pixels, imputed: each is the weighted mean of its eight neighbours, missing ones included.

The noisy linear imputation of Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution Methods",
ICML 2022, arXiv 2202.00449, to which the caller adds the noise.

With weights w of 1/6 for the four direct and 1/12 for the four diagonal neighbours, and nothing beyond the picture,

    sum_q w_pq (x_p - x_q) = 0        for every missing pixel p,

a linear system with as many unknowns as pixels are missing. The published code, and quantus and pytorch-grad-cam with
it, solves it by sparse LU factorisation: 0.03 to 1 s for a picture of 224x224, many times what a model takes to look at
it. It is a Laplace equation, so here it is solved by conjugate gradients with a multigrid cycle as the preconditioner:
some ten steps, to an error far below the noise that is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.images.backend import opencv

Picture = NDArray[np.float32]
"""[H,W,C]."""
Values = NDArray[np.floating]
"""The same, as float32 or float64."""

TOLERANCE = 1e-4
"""Where the solver stops: size of the residual, as a part of what it is at the start, the picture's mean colour."""
_MOST_STEPS, _MOST_REFINEMENTS = 60, 4
_LARGEST_GAIN = 1e-4
"""What one correction in float32 is asked for."""
_SMALLEST = 4
_DAMPING = 0.8
"""Of a Jacobi step; the largest eigenvalue is 4/3 of the diagonal."""
_STEPS_ON_THE_SMALLEST = 8

_AROUND = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
_QUARTERS = np.array([1, 3, 3, 1]) / 4


def impute(picture: Picture, missing: NDArray[np.bool_], *, tolerance: float = TOLERANCE) -> Picture:
    """The picture with its missing pixels filled in, without noise.

    Args:
        picture: float32 [H,W,C]; what stands at missing pixels does not matter. Never changed.
        missing: bool [H,W].
        tolerance: see `TOLERANCE`.

    Returns:
        float32 [H,W,C]. Where every pixel is missing, nothing tells what to fill in, and all is 0.
    """
    if missing.all():
        return np.zeros_like(picture)
    filled = picture.copy()
    filled[missing] = picture[~missing].mean(axis=0, dtype=np.float64)
    return _solved(filled, missing, tolerance) if missing.any() else filled


def _solved(x: Picture, missing: NDArray[np.bool_], tolerance: float) -> Picture:
    """The solution, from a start that is right where nothing is missing.

    In float32 alone, the error in a large hole would come close to the noise. So what is left is computed in float64,
    and corrected in float32.
    """
    levels = _levels(missing, x.shape[2])
    exact = _level(missing, x.shape[2], np.float64)
    solution = x.astype(np.float64)
    residual = -exact.applied(solution)
    goal = tolerance * (first := _norm(residual))
    for _ in range(_MOST_REFINEMENTS):
        if not first or (left := _norm(residual)) <= goal:
            break
        solution += _corrected(levels, residual.astype(np.float32), max(_LARGEST_GAIN, goal / left))
        residual = -exact.applied(solution)
    return solution.astype(np.float32)


def _corrected(levels: list[_Level], residual: Values, gain: float) -> Values:
    """Conjugate gradients from zero, until the residual is smaller by this factor."""
    goal = gain * _norm(residual)
    x, direction, product = np.zeros_like(residual), np.zeros_like(residual), 1.0
    for _ in range(_MOST_STEPS):
        correction = _cycle(levels, residual)
        before, product = product, _dot(residual, correction)
        direction *= np.float32(product / before)
        direction += correction
        image = levels[0].applied(direction)
        length = np.float32(product / _dot(direction, image))
        x += length * direction
        residual = residual - length * image
        if _norm(residual) <= goal:
            break
    return x


@dataclass(frozen=True)
class _Level:
    """The system on one grid.

    Attributes:
        sought: [H,W,C], 1 where a value is sought, else 0.
        weight: [H,W,C], the sum of a pixel's weights: 1 but at the edges.
        step: what a residual is multiplied by in a damped Jacobi step.
    """

    sought: Values
    weight: Values
    step: Values

    def applied(self, x: Values) -> Values:
        """sum_q w_pq (x_p - x_q) where a value is sought, else 0."""
        result = self.weight * x
        result -= _neighbours(x)
        result *= self.sought
        return result

    def rest(self, residual: Values, x: Values) -> Values:
        """What is left of a residual after a correction x."""
        rest: Values = residual - self.applied(x)
        return rest


def _level(missing: NDArray[np.bool_], channels: int, dtype: type[np.floating]) -> _Level:
    sought = np.repeat(missing[..., None].astype(dtype), channels, axis=2)
    weight = _neighbours(np.ones_like(sought))
    return _Level(sought, weight, dtype(_DAMPING) / weight * sought)


def _levels(missing: NDArray[np.bool_], channels: int) -> list[_Level]:
    """Grids of half the height and width each. What is sought on a coarse one lies wholly in what is on the finer."""
    levels = []
    while missing.any():
        levels.append(_level(missing, channels, np.float32))
        if min(missing.shape) <= _SMALLEST:
            break
        height, width = missing.shape
        even = np.pad(missing, ((0, height % 2), (0, width % 2)), mode="edge")
        missing = even[::2, ::2] & even[1::2, ::2] & even[::2, 1::2] & even[1::2, 1::2]
    return levels


def _cycle(levels: list[_Level], residual: Values, depth: int = 0) -> Values:
    """One V-cycle from zero: an approximate solution for a residual. Symmetric, as conjugate gradients need it."""
    level = levels[depth]
    x = level.step * residual
    if depth + 1 == len(levels):
        for _ in range(_STEPS_ON_THE_SMALLEST):
            x += level.step * level.rest(residual, x)
        return x
    below = _restricted(level.rest(residual, x))
    below *= levels[depth + 1].sought
    correction = _prolonged(_cycle(levels, below, depth + 1), x.shape)
    correction *= level.sought
    x += correction
    x += level.step * level.rest(residual, x)
    return x


def _neighbours(x: Values) -> Values:
    """sum_q w_pq x_q; 0 beyond the edges."""
    cv2 = opencv()
    return _with_channels(cv2.filter2D(x, -1, _AROUND, borderType=cv2.BORDER_CONSTANT), x)


def _prolonged(x: Values, shape: tuple[int, ...]) -> Values:
    """Linear interpolation between the centres of cells, to twice the height and width or one less."""
    cv2 = opencv()
    height, width = shape[:2]
    doubled = cv2.resize(x, (2 * x.shape[1], 2 * x.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(_with_channels(doubled, x)[:height, :width])


def _restricted(x: Values) -> Values:
    """The transpose of `_prolonged`."""
    cv2 = opencv()
    height, width, _ = x.shape
    if height % 2 or width % 2:
        x = np.pad(x, ((0, height % 2), (0, width % 2), (0, 0)))
    spread = cv2.sepFilter2D(x, -1, _QUARTERS, _QUARTERS, anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(_with_channels(spread, x)[::2, ::2])


def _with_channels(result: Any, like: Values) -> Values:
    """OpenCV drops a single channel's axis."""
    return np.asarray(result).reshape(*result.shape[:2], like.shape[2])


def _dot(a: Values, b: Values) -> float:
    """The sum of products, of float32. Of float64, BLAS would wake all cores for it, which takes far longer."""
    return float(np.vdot(a, b))


def _norm(x: Values) -> float:
    """The square root of the sum of squares."""
    return float(np.sqrt(np.vdot(x, x))) if x.dtype == np.float32 else float(np.sqrt(np.einsum("hwc,hwc->", x, x)))
