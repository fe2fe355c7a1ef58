"""This module holds corrected normalisations for the ONNX reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


class BatchNormalization(OpRun):
    """BatchNormalization before opset 14 uses the running statistics; the evaluator mixes the batch's own into them."""

    op_domain = ""

    def _run(self, x: Any, *statistics: Any, epsilon: Any = None, **_: Any) -> tuple[Any, ...]:
        scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in statistics)
        return (scale * (x - mean) / np.sqrt(var + np.float32(epsilon)) + bias,)


class GroupNormalization(OpRun):
    """GroupNormalization, defined as since opset 21, computes in the type of its input; the evaluator uses float32."""

    op_domain = ""

    def _run(
        self, x: Any, scale: Any, bias: Any, num_groups: Any = None, epsilon: Any = None, **_: Any
    ) -> tuple[Any, ...]:
        groups = x.reshape(len(x), num_groups, -1)
        centred = groups - groups.mean(2, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(2, keepdims=True) + (1e-5 if epsilon is None else epsilon))
        scale, bias = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias))
        return (normal.reshape(x.shape) * scale + bias,)


class LpNormalization(OpRun):
    """LpNormalization with p = 1 divides by the sum of absolute values; the evaluator adds the elements themselves."""

    op_domain = ""

    def _run(self, x: Any, axis: Any = None, p: Any = None) -> tuple[Any, ...]:
        axis = -1 if axis is None else axis
        norm = abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
        return (np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)),)


class LRN(OpRun):
    """LRN runs over all channels; the evaluator's own runs over as many channels as there are images."""

    op_domain = ""

    def _run(self, x: Any, alpha: Any = None, beta: Any = None, bias: Any = None, size: Any = None) -> tuple[Any, ...]:
        before, after = (size - 1) // 2, size // 2
        sums = [(x[:, max(c - before, 0) : c + after + 1] ** 2).sum(1) for c in range(x.shape[1])]
        return (x / (bias + alpha / size * np.stack(sums, 1)) ** beta,)


class MeanVarianceNormalization(OpRun):
    """MeanVarianceNormalization takes any float type; the evaluator's own is a function that takes float32 only."""

    op_domain = ""

    def _run(self, x: Any, axes: Any = None) -> tuple[Any, ...]:
        over = tuple(axes or (0, 2, 3))
        centred = x - x.mean(over, keepdims=True)
        return (centred / (np.sqrt((centred**2).mean(over, keepdims=True)) + 1e-9),)
