"""This module quantises without rounding, for checking gradients: the straight-through estimator differentiates this.

QuantizeLinear clips and does not round, and DequantizeLinear takes numbers that are not whole. Both compute in float64.
The tensors between them hold the floats of the model that is left when the rounding is taken out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun

from onnx_xcam.common.integers import FEW_BITS, integer_range


def _broadcastable(values: Any, x: np.ndarray, axis: int | None) -> np.ndarray:
    """Reshape scales or zero points to broadcast with the tensor: one number, or one for each position of an axis."""
    array = np.asarray(values)
    if array.dtype.name in FEW_BITS:
        array = array.astype(np.int32)
    array = array.astype(np.float64)
    if array.size == 1:
        return array.reshape(())
    return array.reshape([-1 if a == (1 if axis is None else axis) % x.ndim else 1 for a in range(x.ndim)])


class _Quantize(OpRun):
    """QuantizeLinear clips to the range of its integers, and rounds only if `rounding` is set."""

    op_domain = ""
    rounding = True

    def _run(self, x: Any, scale: Any, zero_point: Any = None, axis: Any = None, **others: Any) -> tuple[Any, ...]:
        kind = others.get("output_dtype") or onnx.TensorProto.UINT8
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind) if zero_point is None else np.asarray(zero_point).dtype
        bounds = integer_range(dtype)
        if bounds is None or others.get("block_size"):
            raise NotImplementedError(f"QuantizeLinear to {dtype}, or in blocks")
        shift = 0.0 if zero_point is None else _broadcastable(zero_point, x, axis)
        steps = np.asarray(x, np.float64) / _broadcastable(scale, x, axis)
        if self.rounding:
            return (np.clip(np.rint(steps) + shift, *bounds).astype(dtype),)
        return (np.clip(steps + shift, *bounds),)


class _Dequantize(OpRun):
    """DequantizeLinear takes numbers that are not whole, too."""

    op_domain = ""

    def _run(self, x: Any, scale: Any, zero_point: Any = None, axis: Any = None, **others: Any) -> tuple[Any, ...]:
        if others.get("block_size"):
            raise NotImplementedError("DequantizeLinear in blocks")
        numbers = x.astype(np.int32) if x.dtype.name in FEW_BITS else x
        shift = 0.0 if zero_point is None else _broadcastable(zero_point, x, axis)
        return (
            ((np.asarray(numbers, np.float64) - shift) * _broadcastable(scale, x, axis)).astype(
                np.asarray(scale).dtype
            ),
        )


class _DynamicQuantize(OpRun):
    """DynamicQuantizeLinear scales to 0..255 by the tensor's extremes or by given ones; its zero point is whole."""

    op_domain = ""
    rounding = True
    extremes: tuple[float, float] | None = None

    def _run(self, x: Any) -> tuple[Any, ...]:
        low, high = self.extremes or (float(np.min(x)), float(np.max(x)))
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255 or 1.0
        zero_point = np.rint(np.clip(-low / scale, 0, 255))
        steps = np.asarray(x, np.float64) / scale
        if self.rounding:
            return (
                np.clip(np.rint(steps) + zero_point, 0, 255).astype(np.uint8),
                np.asarray(scale, x.dtype),
                zero_point.astype(np.uint8),
            )
        return steps + zero_point, np.asarray(scale, x.dtype), np.asarray(zero_point)


def quantisation(*, rounding: bool, extremes: tuple[float, float] | None = None) -> list[type[OpRun]]:
    """Return the quantisation operators for onnx's reference evaluator, which has its own for the newest opsets only.

    Args:
        rounding: whether to round, as the operators do, or only to clip.
        extremes: the smallest and the largest value by which DynamicQuantizeLinear scales, instead of its input's.
    """
    named = {"QuantizeLinear": _Quantize, "DequantizeLinear": _Dequantize, "DynamicQuantizeLinear": _DynamicQuantize}
    return [type(name, (base,), {"rounding": rounding, "extremes": extremes}) for name, base in named.items()]
