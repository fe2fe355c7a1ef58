"""This module is the array namespace of the CAM formulas for numpy arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_xcam.contract import Window


class NumpyArrays:
    """NumpyArrays implements `cams.arrays.Arrays` for numpy arrays."""

    def relu(self, x: np.ndarray) -> np.ndarray:
        """Return max(x, 0), element by element."""
        return np.asarray(np.maximum(x, 0))

    def absolute(self, x: np.ndarray) -> np.ndarray:
        """Return |x|, element by element."""
        return np.asarray(np.abs(x))

    def square_root(self, x: np.ndarray) -> np.ndarray:
        """Return the square root of x, element by element."""
        return np.asarray(np.sqrt(x))

    def space_sum(self, x: np.ndarray) -> np.ndarray:
        """Return the sum over the last axis, which is dropped."""
        return np.asarray(x.sum(-1))

    def space_mean(self, x: np.ndarray) -> np.ndarray:
        """Return the mean over the last axis, which is dropped."""
        return np.asarray(x.mean(-1))

    def channel_sum(self, x: np.ndarray) -> np.ndarray:
        """Sum `[N, K, C, S]` over the channels and return `[N, K, S]`."""
        return np.asarray(x.sum(2))

    def channel_product(self, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Sum `[N, K, C, S]`, weighted by `[N, K, C]`, over the channels and return `[N, K, S]`."""
        return np.asarray((weights[:, :, None] @ x)[:, :, 0])

    def field_product(self, x: np.ndarray, field: np.ndarray) -> np.ndarray:
        """Sum `[N, K, C, S]`, weighted by `[N, K, S]`, over the positions and return `[N, K, C]`."""
        return np.asarray((x @ field[..., None])[..., 0])

    def swapped(self, x: np.ndarray) -> np.ndarray:
        """Return x with its last two axes swapped."""
        return x.swapaxes(-1, -2)

    def class_axis(self, x: np.ndarray) -> np.ndarray:
        """Insert an axis for the classes: `[N, C, ...]` becomes `[N, 1, C, ...]`."""
        return x[:, None]

    def space_axis(self, x: np.ndarray) -> np.ndarray:
        """Append an axis of length 1, for the positions: `[N, K, C]` becomes `[N, K, C, 1]`."""
        return x[..., None]

    def drop_space(self, x: np.ndarray) -> np.ndarray:
        """Drop the axis of the positions: `[N, K, C, 1]` becomes `[N, K, C]`."""
        return x[..., 0]

    def positions(self, x: np.ndarray) -> int:
        """Return the length of the last axis."""
        return int(x.shape[-1])

    def safe_divisor(self, x: np.ndarray) -> np.ndarray:
        """Return x where it is above 0, and 1 elsewhere."""
        return np.where(x > 0, x, np.ones_like(x))

    def map_max(self, x: np.ndarray) -> np.ndarray:
        """Return the maximum over h and w of maps `[N, K, h, w]`, as `[N, K, 1, 1]`."""
        return np.asarray(x.max((2, 3), keepdims=True))

    def maximum(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the larger of x and y, element by element."""
        return np.asarray(np.maximum(x, y))

    def resize_linear(self, x: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """Resize maps `[N, K, h, w]` to another height and width, linearly between the centres of pixels."""
        rows, columns = (_interpolation(*lengths) for lengths in zip(x.shape[2:], size, strict=True))
        return np.asarray(rows @ x @ columns.T, x.dtype)

    def windowed(self, x: np.ndarray, window: Window) -> np.ndarray:
        """Cut maps `[N, K, h, w]`, which cover a window of the input, to the input itself, at the same size."""
        rows = window_matrix(x.shape[2], window.top, window.bottom)
        columns = window_matrix(x.shape[3], window.left, window.right)
        return np.asarray(rows @ x @ columns.T, x.dtype)


def window_matrix(length: int, first: float, last: float) -> np.ndarray:
    """Return the matrix [length, length] that reads an axis, which covers first..last, from 0 to 1.

    An entry is how much of a sample is in a sample of the result, by linear interpolation; beyond the outer centres the
    outer samples hold, and beyond the outer edges there is nothing.
    """
    at = ((np.arange(length) + 0.5) / length - first) / (last - first) * length - 0.5
    inside = (at >= -0.5) & (at <= length - 0.5)
    distance = np.abs(np.clip(at, 0, length - 1)[:, None] - np.arange(length))
    return np.asarray(np.maximum(1 - distance, 0) * inside[:, None])


def _interpolation(length: int, target: int) -> np.ndarray:
    """Return the matrix [target, length] of linear interpolation along one axis.

    An entry is how much of a sample is in a sample of the result; beyond the outer centres the outer samples hold.
    """
    at = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
    distance = np.abs(at[:, None] - np.arange(length))
    return np.asarray(np.maximum(1 - distance, 0))
