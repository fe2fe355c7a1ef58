"""This module holds the gradient rules of quantisation, by the straight-through estimator.

The estimator takes rounding for the identity and differentiates clipping exactly: the gradient passes where the integer
lies inside its range and is zero where it is at one of the ends. That is the convention of quantisation-aware training
(Bengio et al., "Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432; Krishnamoorthi,
"Quantizing deep convolutional networks for efficient inference", arXiv 1806.08342). Scales and zero points are taken
for constants.

The gradient of an integer tensor is that with respect to the integer itself, so operators between two quantisers are
differentiated as usual. DequantizeLinear multiplies a gradient by the scale, and QuantizeLinear divides it by the
scale.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

from onnx_xcam.common.integers import integer_range
from onnx_xcam.surgery.analysis.value_ranges import clips_nothing
from onnx_xcam.surgery.builder.forward_values import along_axis
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp


@vjp("QuantizeLinear", constant_axes=True)
def quantize_linear(node: NodeView, gy: Value) -> Gradients:
    """y = min(max(round(x / scale) + zero, low), high);  gx = gy / scale where low < y < high.

    Where x cannot lie below the value of the lowest integer (or above that of the highest), as behind an average, a
    Softmax, or 1 + erf, nothing is clipped at that end, and the gradient passes there too.
    The quantiser of the score itself passes the whole gradient, so that a score at the end of its range is explained.
    """
    bounds = integer_range(node.y.dtype)
    if bounds is None:
        raise node.unsupported(f"it quantises to {node.y.dtype.name}; integers are supported")
    gx = gy.unscaled(along_axis(node.graph, node.emitter, node.node, 1, gy.dtype))
    if node.is_unclipped:
        return gx
    y = node.y.cast(np.float32)
    masks = []
    if not clips_nothing(node.graph, node.node, "min"):
        masks.append(y > bounds[0])
    if not clips_nothing(node.graph, node.node, "max"):
        masks.append(y < bounds[1])
    return gx.masked(reduce(Value.logical_and, masks)) if masks else gx


@vjp("DequantizeLinear", constant_axes=True)
def dequantize_linear(node: NodeView, gy: Value) -> Gradients:
    """y = (x - zero) scale;  gx = gy scale."""
    if node.attr("block_size", 0):
        raise node.unsupported("its values are scaled in blocks, which is supported for weights only")
    return gy.scaled(along_axis(node.graph, node.emitter, node.node, 1, gy.dtype))


@vjp("DynamicQuantizeLinear", constant_axes=True)
def dynamic_quantize_linear(node: NodeView, gy: Value) -> Gradients:
    """y = round(x / scale) + zero, where scale and zero are such that nothing is clipped;  gx = gy / scale."""
    return gy.unscaled(node.output(1))
