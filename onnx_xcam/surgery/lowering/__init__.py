"""Operators outside the standard, and integer ones, as standard float operators: what the surgery analyses.

ONNX Runtime's optimiser and its quantiser write operators of their own (`com.microsoft`), and operators that compute on
integers. Each is defined by a few standard nodes, which take its place in the copy that is analysed: layers, axes,
score and gradients are then found as in any model, and a quantised model of any format looks like one with
QuantizeLinear and DequantizeLinear nodes. What lies between those nodes does not exist in the model; where the backward
pass needs it, it is computed once more in the tail. The model itself is not touched.
"""

from onnx_xcam.surgery.lowering import activations, aliases, attention, fused, norms, quantised
from onnx_xcam.surgery.lowering.expansion import LOWERINGS, Lowered, lowered

FAMILIES = (activations, aliases, attention, fused, norms, quantised)
"""The modules that register lowerings when they are imported."""

__all__ = ["FAMILIES", "LOWERINGS", "Lowered", "lowered"]
