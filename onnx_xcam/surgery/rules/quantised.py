"""Quantisation, by the straight-through estimator.

Rounding is taken for the identity, and clipping for what it is: the gradient passes where the integer lies inside its
range and stops where it is at one of its ends. That is the convention of quantisation-aware training (Bengio et al.,
"Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432; Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference", arXiv 1806.08342). Scales and zero points are taken for constants.

Integers are seen as the numbers they are, so that whatever computes on them between is differentiated as usual: their
gradient is by one step, and by `scale` when it comes to the floats.
"""

from __future__ import annotations

import numpy as np

from onnx_xcam.integers import integer_range
from onnx_xcam.surgery.graphs.signs import is_non_negative, lowest_is_zero
from onnx_xcam.surgery.graphs.stored import along_axis
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp


@vjp("QuantizeLinear", inputs=1, constant_axes=True)
def quantize_linear(node: NodeView, gy: Value) -> Gradients:
    """y = min(max(round(x / scale) + zero, low), high);  gx = gy / scale where low < y < high.

    Where the lowest integer is zero and x is known to be no less, as behind an average of non-negative values or a
    Softmax, nothing is clipped there: gx = gy / scale where y < high.
    The score's own quantiser passes all of it: a score that is at the end of its range is still explained.
    """
    bounds = integer_range(node.y.dtype)
    if bounds is None:
        raise node.unsupported(f"it quantises to {node.y.dtype.name}; integers are supported")
    gx = gy.unscaled(along_axis(node.graph, node.emitter, node.node, 1, gy.dtype))
    if node.is_unclipped:
        return gx
    y = node.y.cast(np.float32)
    low, high = bounds
    if lowest_is_zero(node.graph, node.node, node.y.dtype) and is_non_negative(node.graph, node.node.inputs[0].name):
        return (y < high).where(gx, 0)
    return (y > low).logical_and(y < high).where(gx, 0)


@vjp("DequantizeLinear", inputs=1, constant_axes=True)
def dequantize_linear(node: NodeView, gy: Value) -> Gradients:
    """y = (x - zero) scale;  gx = gy scale."""
    if node.attr("block_size", 0):
        raise node.unsupported("its values are scaled in blocks, which is supported for weights only")
    return gy.scaled(along_axis(node.graph, node.emitter, node.node, 1, gy.dtype))


@vjp("DynamicQuantizeLinear", inputs=1, constant_axes=True, detached=(1, 2))
def dynamic_quantize_linear(node: NodeView, gy: Value) -> Gradients:
    """y = round(x / scale) + zero, scale and zero such that nothing is clipped;  gx = gy / scale."""
    return gy.unscaled(node.output(1))
