"""The array namespace of the CAM formulas for numpy."""

from __future__ import annotations

import numpy as np


class NumpyArrays:
    """`cams.xgrad.Arrays` for numpy arrays."""

    def relu(self, x: np.ndarray) -> np.ndarray:
        """max(x, 0)."""
        return np.asarray(np.maximum(x, 0))

    def space_sum(self, x: np.ndarray) -> np.ndarray:
        """The sum over the last axis, which is dropped."""
        return np.asarray(x.sum(-1))

    def class_axis(self, x: np.ndarray) -> np.ndarray:
        """`[N, C, ...]` as `[N, 1, C, ...]`."""
        return x[:, None]

    def drop_space(self, x: np.ndarray) -> np.ndarray:
        """`[N, K, C, 1]` as `[N, K, C]`."""
        return x[..., 0]

    def safe_divisor(self, x: np.ndarray) -> np.ndarray:
        """x where it is above 0, else 1."""
        return np.where(x > 0, x, np.ones_like(x))
