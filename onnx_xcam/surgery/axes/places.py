"""This module says where the rows (or columns) of a feature map lie on the picture.

A convolution keeps the order of rows and spreads them evenly over the picture. A flip, a roll, a crop or a padding does
not, until another one undoes it. So an axis of height or width has a list of places, one for each position: 0 is the
picture's upper (left) edge, 1 its lower (right) edge. None stands for places that are spread evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

At: TypeAlias = "tuple[float, ...] | None"
"""The places of an axis; None for the usual ones, evenly from edge to edge."""

_Floats: TypeAlias = NDArray[np.float64]
MOST = 1 << 16
"""The places of longer axes are not listed, and count as unknown."""
_FEWEST = 4
"""With fewer rows than this, every matrix would seem to draw from neighbours."""


def even(count: int) -> _Floats:
    """Return the usual places, spread evenly."""
    return (np.arange(count) + 0.5) / count


def listed(at: At, count: int) -> _Floats:
    """Return the places as numbers."""
    return even(count) if at is None else np.array(at)


def packed(places: _Floats) -> At:
    """Return the places as they are stored; None for those that are spread evenly."""
    usual = len(places) == 0 or bool(np.abs(places - even(len(places))).max() < 1e-6)
    return None if usual else tuple(np.round(places, 9).tolist())


def taken(at: At, count: int, positions: NDArray[np.int64]) -> At | bool:
    """Return the places of the positions that are taken, in this order.

    Positions before the first or after the last one that repeat others, as a reflection at the borders does, are
    padding.
    """
    for start in np.flatnonzero(positions == 0).tolist() if len(positions) > count else ():
        after = len(positions) - start - count
        if start < count and 0 <= after < count and (positions[start : start + count] == np.arange(count)).all():
            return padded(at, count, start, after)
    return packed(listed(at, count)[positions])


def at_indices(at: At, count: int, indices: _Floats) -> At | bool:
    """Return the places at indices between two positions, or beyond the ends; False if the places are in no order."""
    places = listed(at, count)
    if not in_order(places) and not in_order(places[::-1]):
        return False
    if count == 1:
        return packed(places[0] + indices)
    low = np.clip(np.floor(indices), 0, count - 2).astype(int)
    return packed(places[low] + (indices - low) * (places[low + 1] - places[low]))


def stretched(at: At, count: int, size: int) -> At | bool:
    """Return the places of an axis that is resampled to another size."""
    if at is None or not size:
        return None
    return size <= MOST and at_indices(at, count, (np.arange(size) + 0.5) * count / size - 0.5)


def padded(at: At, count: int, before: int, after: int) -> At | bool:
    """Return the places of an axis with positions added at the ends, or removed where these numbers are negative."""
    if count + before + after > MOST:
        return False
    return at_indices(at, count, np.arange(-before, count + after, dtype=np.float64))


def coarser(at: At, total: int, size: int, stride: int) -> At:
    """Return the places of blocks of `stride` positions each."""
    return None if at is None else packed(listed(at, total).reshape(size, stride).mean(axis=1))


def in_order(places: _Floats) -> bool:
    """Tell whether places ascend from the upper (left) edge on."""
    return bool((np.diff(places) >= 0).all()) and (len(places) < 2 or places[0] < places[-1])


def alike(one: At, other: At, count: int) -> bool:
    """Tell whether two maps of one size fit over each other, with no position off by more than a cell and a half."""
    if one is other or one == other:
        return True
    return bool(np.abs(listed(one, count) - listed(other, count)).max() <= min(1.5 / count, 0.34))


def edges(at: At, count: int) -> tuple[float, float]:
    """Return where the first position begins and the last one ends, for places that are in order."""
    if at is None or count == 1:
        return (0.0, 1.0) if at is None else (at[0] - 0.5, at[0] + 0.5)
    half = (at[-1] - at[0]) / (count - 1) / 2
    return at[0] - half, at[-1] + half


def is_whole(at: At, count: int) -> bool:
    """Tell whether ordered places cover the picture, up to the half cell that strides and paddings shift them."""
    first, last = edges(at, count)
    return abs(last - first - 1) <= 0.6 / count + 0.02 and abs((first + last) / 2 - 0.5) <= 0.55 / count + 0.02


def centred(window: Sequence[int], size: int) -> _Floats:
    """Return the indices of the centres of `size` windows (stride, padding before, kernel, dilation)."""
    stride, before, kernel, dilation = window
    return np.arange(size, dtype=np.float64) * stride - before + (kernel - 1) * dilation / 2


def drawn_from(weights: NDArray[np.floating]) -> _Floats | None:
    """Return the index that each column of `[rows, columns]` draws from, if it is one row or its neighbours; else None.

    A permutation, a flip, a crop and a linear resize are such matrices, a dense layer over positions is not.
    """
    size = np.abs(weights.astype(np.float64))
    total = size.sum(axis=0)
    if len(size) < _FEWEST or not np.isfinite(size).all() or not (total > 0).all():
        return None
    rows = np.arange(len(size))[:, None]
    centre = (rows * size).sum(axis=0) / total
    spread = np.sqrt((size * (rows - centre) ** 2).sum(axis=0) / total)
    return centre if bool((spread <= 0.55 * max(1.0, len(size) / size.shape[1])).all()) else None
