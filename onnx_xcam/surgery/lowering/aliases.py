"""Operators that ONNX Runtime had before the standard did, and still takes under its own name.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from onnx_xcam.surgery.lowering.expansion import Expansion, lowering

_SINCE = {"GatherND": 11, "Trilu": 14, "GridSample": 16, "Pad": 11, "Range": 11}


@lowering(*_SINCE)
def standard(e: Expansion) -> None:
    """The standard's operator, where the model's opset has it."""
    op = e.node.op_type
    if e.opset >= _SINCE[op]:
        e.op(op, list(e.node.input), e.output(0), **e.attributes())


@lowering("ExpandDims")
def expand_dims(e: Expansion) -> None:
    """A dimension of 1 put in at an axis, which is known."""
    axis = e.value(e.input(1))
    if axis is not None:
        e.unsqueeze(e.input(0), [int(axis.reshape(-1)[0])], e.output(0))
