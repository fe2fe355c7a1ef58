"""The array namespace of the CAM formulas for numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class NumpyArrays:
    """`cams.arrays.Arrays` for numpy arrays."""

    def relu(self, x: np.ndarray) -> np.ndarray:
        """max(x, 0)."""
        return np.asarray(np.maximum(x, 0))

    def absolute(self, x: np.ndarray) -> np.ndarray:
        """|x|."""
        return np.asarray(np.abs(x))

    def space_sum(self, x: np.ndarray) -> np.ndarray:
        """The sum over the last axis, which is dropped."""
        return np.asarray(x.sum(-1))

    def space_mean(self, x: np.ndarray) -> np.ndarray:
        """The mean over the last axis, which is dropped."""
        return np.asarray(x.mean(-1))

    def channel_sum(self, x: np.ndarray) -> np.ndarray:
        """`[N, K, C, S]` as `[N, K, S]`, summed over the channels."""
        return np.asarray(x.sum(2))

    def class_axis(self, x: np.ndarray) -> np.ndarray:
        """`[N, C, ...]` as `[N, 1, C, ...]`."""
        return x[:, None]

    def space_axis(self, x: np.ndarray) -> np.ndarray:
        """`[N, K, C]` as `[N, K, C, 1]`."""
        return x[..., None]

    def drop_space(self, x: np.ndarray) -> np.ndarray:
        """`[N, K, C, 1]` as `[N, K, C]`."""
        return x[..., 0]

    def positions(self, x: np.ndarray) -> int:
        """The length of the last axis."""
        return int(x.shape[-1])

    def safe_divisor(self, x: np.ndarray) -> np.ndarray:
        """x where it is above 0, else 1."""
        return np.where(x > 0, x, np.ones_like(x))

    def map_max(self, x: np.ndarray) -> np.ndarray:
        """The maximum over h and w of maps `[N, K, h, w]`, as `[N, K, 1, 1]`."""
        return np.asarray(x.max((2, 3), keepdims=True))

    def maximum(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The larger one, element by element."""
        return np.asarray(np.maximum(x, y))

    def resize_linear(self, x: np.ndarray, size: Sequence[int]) -> np.ndarray:
        """Maps `[N, K, h, w]` resized to another height and width, linearly between centres of pixels."""
        rows, columns = (_interpolation(*lengths) for lengths in zip(x.shape[2:], size, strict=True))
        return np.asarray(rows @ x @ columns.T, x.dtype)


def _interpolation(length: int, target: int) -> np.ndarray:
    """[target, length]: how much of each sample is in each sample of the result; the outer ones hold beyond."""
    at = np.clip((np.arange(target) + 0.5) * length / target - 0.5, 0, length - 1)
    distance = np.abs(at[:, None] - np.arange(length))
    return np.asarray(np.maximum(1 - distance, 0))
