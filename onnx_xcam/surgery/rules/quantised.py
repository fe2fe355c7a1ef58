"""Quantisation, by the straight-through estimator.

Rounding is taken for the identity, and clipping for what it is: the gradient passes where the integer lies inside its
range and stops where it is at one of its ends. That is the convention of quantisation-aware training (Bengio et al.,
"Estimating or propagating gradients through stochastic neurons", arXiv 1308.3432; Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference", arXiv 1806.08342). Scales and zero points are taken for constants.

Integers are seen as the numbers they are, so that whatever computes on them between is differentiated as usual: their
gradient is by one step, and by `scale` when it comes to the floats.
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

    Where x is known to lie above what the lowest integer stands for (or below the highest), as behind an average, a
    Softmax, or 1 + erf, nothing is clipped at that end, and the gradient passes.
    The score's own quantiser passes all of it: a score that is at the end of its range is still explained.
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
    """y = round(x / scale) + zero, scale and zero such that nothing is clipped;  gx = gy / scale."""
    return gy.unscaled(node.output(1))
