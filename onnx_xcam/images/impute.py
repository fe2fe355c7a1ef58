"""This module imputes missing pixels: each becomes the weighted mean of its eight neighbours, missing ones included.

This is the noisy linear imputation of Rong et al., "A Consistent and Efficient Evaluation Strategy for Attribution
Methods", ICML 2022, arXiv 2202.00449, to which the caller adds the noise.

With weights w of 1/6 for the four direct and 1/12 for the four diagonal neighbours, and no neighbours beyond the
picture, the missing pixels solve the linear system

    sum_q w_pq (x_p - x_q) = 0        for every missing pixel p.

The published code, and quantus and pytorch-grad-cam with it, solves the system by sparse LU factorisation: that takes
0.03 to 1 s for a picture of 224x224, many times as long as a run of a model. The system is a Laplace equation, so here
it is solved by conjugate gradients with a multigrid cycle as the preconditioner: some ten steps give an error far below
the noise that is added.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.images.backend import opencv

Picture = NDArray[np.float32]
"""A picture, float32 [H,W,C]."""
Values = NDArray[np.floating]
"""A value for each pixel and channel, float32 or float64 [H,W,C]."""

TOLERANCE = 1e-4
"""The solver stops where the norm of the residual is this part of the first one, that of the picture's mean colour."""
_MOST_STEPS, _MOST_REFINEMENTS = 60, 4
"""The most steps of conjugate gradients in a correction, and the most corrections."""
_LARGEST_GAIN = 1e-4
"""One correction in float32 is asked to reduce the residual to no less than this part of it."""
_SMALLEST = 4
"""The coarsest grid is the first one with a side of at most this length."""
_DAMPING = 0.8
"""The factor of a damped Jacobi step; the largest eigenvalue is 4/3 of the diagonal."""
_STEPS_ON_THE_SMALLEST = 8
"""The Jacobi steps on the coarsest grid."""

_AROUND = np.array([[1, 2, 1], [2, 0, 2], [1, 2, 1]]) / 12
"""The weights of a pixel's neighbours."""
_QUARTERS = np.array([1, 3, 3, 1]) / 4
"""The weights along one axis of the transpose of linear interpolation to twice the length."""


def impute(picture: Picture, missing: NDArray[np.bool_], *, tolerance: float = TOLERANCE) -> Picture:
    """Return a picture with its missing pixels filled in, without noise.

    Args:
        picture: float32 [H,W,C], never changed; values at missing pixels do not matter.
        missing: bool [H,W].
        tolerance: how precise the solution is; see `TOLERANCE`.

    Returns:
        float32 [H,W,C]; zeros where every pixel is missing.
    """
    if missing.all():
        return np.zeros_like(picture)
    filled = picture.copy()
    filled[missing] = picture[~missing].mean(axis=0, dtype=np.float64)
    return _solved(filled, missing, tolerance) if missing.any() else filled


def _solved(x: Picture, missing: NDArray[np.bool_], tolerance: float) -> Picture:
    """Solve the system from a start x that is right where nothing is missing.

    In float32 alone, the error in a large hole would come close to the noise. So the residual is computed in float64,
    and corrections for it in float32.
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
    """Return a correction by conjugate gradients, from zero until the residual is `gain` times as large or smaller."""
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
    """A _Level is the linear system on one grid.

    Attributes:
        sought: [H,W,C], 1 where a value is sought, else 0.
        weight: [H,W,C], the sum of the weights of a pixel's neighbours: 1, or less at the edges of the picture.
        step: [H,W,C], the factor of a residual in a damped Jacobi step.
    """

    sought: Values
    weight: Values
    step: Values

    def applied(self, x: Values) -> Values:
        """Return sum_q w_pq (x_p - x_q) where a value is sought, else 0."""
        result = self.weight * x
        result -= _neighbours(x)
        result *= self.sought
        return result

    def rest(self, residual: Values, x: Values) -> Values:
        """Return what is left of a residual after a correction x."""
        rest: Values = residual - self.applied(x)
        return rest


def _level(missing: NDArray[np.bool_], channels: int, dtype: type[np.floating]) -> _Level:
    """Return the system for the missing pixels, bool [H,W], of one grid."""
    sought = np.repeat(missing[..., None].astype(dtype), channels, axis=2)
    weight = _neighbours(np.ones_like(sought))
    return _Level(sought, weight, dtype(_DAMPING) / weight * sought)


def _levels(missing: NDArray[np.bool_], channels: int) -> list[_Level]:
    """Return the systems on ever coarser grids, each of half the height and width of the one before.

    A cell of a coarse grid is sought only if all four cells of the finer grid in it are.
    """
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
    """Return an approximate solution for a residual by one V-cycle from zero.

    The cycle is a symmetric operator, as conjugate gradients need it.
    """
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
    """Return the weighted sum of each pixel's neighbours, sum_q w_pq x_q, with 0 beyond the edges."""
    cv2 = opencv()
    return _with_channels(cv2.filter2D(x, -1, _AROUND, borderType=cv2.BORDER_CONSTANT), x)


def _prolonged(x: Values, shape: tuple[int, ...]) -> Values:
    """Interpolate x linearly between the centres of cells to a shape of twice the height and width, or one less."""
    cv2 = opencv()
    height, width = shape[:2]
    doubled = cv2.resize(x, (2 * x.shape[1], 2 * x.shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(_with_channels(doubled, x)[:height, :width])


def _restricted(x: Values) -> Values:
    """Apply the transpose of `_prolonged`: sum x up on a grid of half the height and width."""
    cv2 = opencv()
    height, width, _ = x.shape
    if height % 2 or width % 2:
        x = np.pad(x, ((0, height % 2), (0, width % 2), (0, 0)))
    spread = cv2.sepFilter2D(x, -1, _QUARTERS, _QUARTERS, anchor=(1, 1), borderType=cv2.BORDER_REPLICATE)
    return np.ascontiguousarray(_with_channels(spread, x)[::2, ::2])


def _with_channels(result: Any, like: Values) -> Values:
    """Return OpenCV's result with the axis of the channels, which OpenCV drops where there is only one."""
    return np.asarray(result).reshape(*result.shape[:2], like.shape[2])


def _dot(a: Values, b: Values) -> float:
    """Return the sum of products of float32 values; for float64, BLAS would start all cores, which takes far longer."""
    return float(np.vdot(a, b))


def _norm(x: Values) -> float:
    """Return the square root of the sum of squares."""
    return float(np.sqrt(np.vdot(x, x))) if x.dtype == np.float32 else float(np.sqrt(np.einsum("hwc,hwc->", x, x)))
