"""This package lowers operators outside the standard, and operators on integers, to standard float operators.

ONNX Runtime's optimiser and its quantiser write operators of their own (`com.microsoft`) and operators that compute on
integers. A lowering replaces such a node by the few standard nodes that define it, in a copy of the model that is only
analysed. Layers, axes, score and gradients are then found as in any model, and a quantised model of any format looks
like one with QuantizeLinear and DequantizeLinear nodes. Tensors between the nodes of a lowering do not exist in the
model itself, which is not changed; where the backward pass needs one, the tail computes it.
"""

from onnx_xcam.surgery.lowering import activations, aliases, attention, fused, norms, quantised
from onnx_xcam.surgery.lowering.expansion import LOWERINGS, Lowered, lowered

FAMILIES = (activations, aliases, attention, fused, norms, quantised)
"""The modules that register lowerings when they are imported."""

__all__ = ["FAMILIES", "LOWERINGS", "Lowered", "lowered"]
