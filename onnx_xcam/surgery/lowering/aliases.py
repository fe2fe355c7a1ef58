"""This module lowers operators that ONNX Runtime had before the standard did, and still has under its own domain.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from onnx_xcam.surgery.lowering.expansion import Expansion, lowering

_SINCE = {"GatherND": 11, "Trilu": 14, "GridSample": 16, "Pad": 11, "Range": 11}
"""The first opset at which the standard has the operator, or has it in the form of ONNX Runtime's."""


@lowering(*_SINCE)
def standard(e: Expansion) -> None:
    """Replace the node by the standard operator of the same name, where the model's opset has it."""
    op = e.node.op_type
    if e.opset >= _SINCE[op]:
        e.op(op, list(e.node.input), e.output(0), **e.attributes())


@lowering("ExpandDims")
def expand_dims(e: Expansion) -> None:
    """Replace ExpandDims by Unsqueeze, where the axis is a known constant."""
    axis = e.value(e.input(1))
    if axis is not None:
        e.unsqueeze(e.input(0), [int(axis.reshape(-1)[0])], e.output(0))
