"""This module measures how similar two maps are: by the order of their values, and as pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SSIM_WINDOW = 7
_K1, _K2 = 0.01, 0.03


def rank_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Return Spearman's rank correlation of two maps of one shape, -1..1; ties share their mean rank.

    Returns:
        The correlation, or None where a map has the same value everywhere or is not finite.
    """
    first, second = (_ranks(values) for values in (a, b))
    if first is None or second is None:
        return None
    return float((first * second).sum() / np.sqrt(np.square(first).sum() * np.square(second).sum()))


def _ranks(values: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Return the ranks of the values less their mean, flat; None where the correlation is not defined."""
    flat = np.asarray(values, np.float64).reshape(-1)
    if not np.isfinite(flat).all():
        return None
    _, places, counts = np.unique(flat, return_inverse=True, return_counts=True)
    if len(counts) < 2:
        return None
    last = np.cumsum(counts)
    ranks = np.asarray((last - (counts - 1) / 2)[places.reshape(-1)], np.float64)
    centred: NDArray[np.float64] = ranks - ranks.mean()
    return centred


def ssim(a: NDArray[np.floating], b: NDArray[np.floating]) -> float | None:
    """Return the structural similarity, -1..1, of two pictures [H,W] with values 0..1 (Wang et al., 2004).

    It is the mean over all windows of 7 x 7 that lie inside, with the sample covariance, and equals scikit-image's
    `structural_similarity(a, b, data_range=1)`.

    Returns:
        The similarity, or None if a picture is not finite.

    Raises:
        ValueError: the shapes differ, or a side is shorter than 7.
    """
    if a.shape != b.shape or a.ndim != 2 or min(a.shape) < SSIM_WINDOW:
        raise ValueError(f"two pictures of at least 7 x 7 are needed, not {list(a.shape)} and {list(b.shape)}")
    x, y = (np.asarray(values, np.float64) for values in (a, b))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    mean_x, mean_y = _means(x), _means(y)
    sample = SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1)
    var_x = sample * (_means(x * x) - mean_x**2)
    var_y = sample * (_means(y * y) - mean_y**2)
    cov = sample * (_means(x * y) - mean_x * mean_y)
    c1, c2 = _K1**2, _K2**2
    numerator = (2 * mean_x * mean_y + c1) * (2 * cov + c2)
    return float((numerator / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))).mean())


def _means(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean of every window that lies inside the picture."""
    for axis in (0, 1):
        sums = np.cumsum(values, axis)
        sums = np.concatenate([np.zeros_like(sums.take([0], axis)), sums], axis)
        count = sums.shape[axis]
        values = sums.take(range(SSIM_WINDOW, count), axis) - sums.take(range(count - SSIM_WINDOW), axis)
    return values / SSIM_WINDOW**2
