"""This module holds corrected pooling operators for the ONNX reference evaluator."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun

from onnx_xcam.verification.reference.windows import Windows


class MaxPool(OpRun):
    """MaxPool takes one step for each element of the kernel; the evaluator's own loops over output positions."""

    op_domain = ""

    def _run(self, x: Any, kernel_shape: Any = None, ceil_mode: Any = None, **op: Any) -> tuple[Any, ...]:
        windows, size, rank = Windows(op, x.shape[2:], kernel_shape), x.shape[2:], x.ndim - 2
        if ceil_mode:
            windows.take_partial(size)
        places = np.arange(x.size).reshape(x.shape)
        best = np.full((*x.shape[:2], *windows.count), -np.inf)
        chosen = np.zeros(best.shape, np.int64)
        margin = [
            (low, high + r)
            for low, high, r in zip(windows.pads[:rank], windows.pads[rank:], windows.reach, strict=True)
        ]
        padded: Any = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *margin], constant_values=-np.inf)
        padded_places: Any = np.pad(places, [(0, 0), (0, 0), *margin])
        for _, where in windows.offsets():
            value = padded[(..., *where)]
            better = value > best
            best, chosen = np.where(better, value, best), np.where(better, padded_places[(..., *where)], chosen)
        return best.astype(x.dtype), chosen


class AveragePool(OpRun):
    """AveragePool adds up one window at a time, cut off at the edges of the input.

    The evaluator's own gives NaN where a window is larger than the input, and lays out all windows at once, which takes
    gigabytes for large ones.
    """

    op_domain = ""

    def _run(
        self, x: Any, kernel_shape: Any = None, ceil_mode: Any = None, count_include_pad: Any = None, **op: Any
    ) -> tuple[Any, ...]:
        windows, size = Windows(op, x.shape[2:], kernel_shape), x.shape[2:]
        if ceil_mode:
            windows.take_partial(size)
        result: Any = np.empty((*x.shape[:2], *windows.count), x.dtype)
        for window in product(*map(range, windows.count)):
            met = [windows.positions(axis, index) for axis, index in enumerate(window)]
            inside = [p[(p >= 0) & (p < n)] for p, n in zip(met, size, strict=True)]
            ends = zip(met, size, windows.pads[len(size) :], strict=True)
            counted = [p[p < n + end] for p, n, end in ends] if count_include_pad else inside
            total = x[(..., *np.ix_(*inside))].sum(axis=tuple(range(2, x.ndim)))
            result[(..., *window)] = total / math.prod(map(len, counted))
        return (result,)


class GlobalMaxPool(OpRun):
    """GlobalMaxPool reduces all spatial axes; the evaluator takes wrong axes unless there are two of them."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GlobalLpPool(OpRun):
    """GlobalLpPool takes the p-norm over all spatial axes; the evaluator has no such operator."""

    op_domain = ""

    def _run(self, x: Any, p: Any = None) -> tuple[Any, ...]:
        p = p or 2
        return ((abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)
