"""This module holds corrected operators that read pictures at other positions, for the ONNX reference evaluator."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as _AnyResize


class AffineGrid(OpRun):
    """AffineGrid computes in the type of `theta`; the evaluator's own computes in float32."""

    op_domain = ""

    def _run(self, theta: Any, size: Any, align_corners: Any = None) -> tuple[Any, ...]:
        lines = [np.linspace(-1, 1, n) if align_corners else (2 * np.arange(n) + 1) / n - 1 for n in size[2:]]
        points = np.meshgrid(*lines, indexing="ij")[::-1]
        regular = np.stack([*points, np.ones(size[2:])], -1)
        return (np.einsum("...j,nij->n...i", regular, theta).astype(theta.dtype),)


class GridSample(OpRun):
    """GridSample computes positions in the type of the grid, and reads `mode` by the names of all opsets.

    The evaluator's own computes positions in float32, does not know the modes by their names before opset 20, and in
    mode cubic moves the position where another pixel must be taken.
    """

    op_domain = ""

    def _run(
        self, x: Any, grid: Any, mode: Any = None, padding_mode: Any = None, align_corners: Any = None
    ) -> tuple[Any, ...]:
        lines = []
        for axis, size in enumerate(x.shape[2:]):
            n = grid[..., x.ndim - 3 - axis]
            c = (n + 1) / 2 * (size - 1) if align_corners else ((n + 1) * size - 1) / 2
            lines.append([(*_pixel(i, size, padding_mode, align_corners), w) for i, w in _cell(c, mode)])
        y: Any = 0
        images = np.arange(len(x)).reshape(-1, *[1] * (grid.ndim - 2))
        for taps in product(*lines):
            weight = np.prod([known * w for _, known, w in taps], axis=0)
            y = y + x[(images, slice(None), *(i for i, _, _ in taps))] * weight[..., None]
        return (np.moveaxis(y, -1, 1),)


def _cell(c: np.ndarray, mode: str) -> list[tuple[np.ndarray, Any]]:
    """Return the pixels that are read along an axis for positions c, and the weight of each."""
    if mode == "nearest":
        return [(np.rint(c), np.ones(c.shape, c.dtype))]
    reach, weigh = (2, _cubic_weight) if "cubic" in mode else (1, lambda d: 1 - d)
    pixels = [np.floor(c) + j for j in range(1 - reach, reach + 1)]
    return [(i, weigh(abs(c - i))) for i in pixels]


def _cubic_weight(d: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Return the weight of a pixel at the distance d in cubic interpolation."""
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, far)


def _pixel(i: np.ndarray, size: int, padding: str, align_corners: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixel that is read in place of pixel i of an axis, and whether it counts (padding may be zero)."""
    known = (i >= 0) & (i < size) | (padding != "zeros")
    if padding == "reflection":
        low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
        while ((i < low) | (i > high)).any() and size > 1:
            i = np.where(i < low, 2 * low - i, i)
            i = np.where(i > high, 2 * high - i, i)
    return np.clip(i, 0, size - 1).astype(np.int64), known


class Resize(_AnyResize):
    """Resize repeats elements at once where it can; the evaluator's own loops over all output positions."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Any, roi: Any, scales: Any = None, sizes: Any = None, **how: Any
    ) -> tuple[Any, ...]:
        ways = tuple(how.get(name) for name in ("mode", "coordinate_transformation_mode", "nearest_mode"))
        whole = scales is not None and np.size(scales) == x.ndim and bool(np.all(scales == np.round(scales)))
        if not whole or ways != ("nearest", "asymmetric", "floor") or how.get("axes") is not None:
            result: tuple[Any, ...] = super()._run(x, roi, scales, sizes, **how)
            return result
        for axis, scale in enumerate(scales):
            x = np.repeat(x, int(scale), axis)
        return (x,)
