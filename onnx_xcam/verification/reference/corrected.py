"""This module lists the operators that replace those of the ONNX reference evaluator (onnx 1.23).

The evaluator's own are wrong by the specification, missing, or too slow to wait for; the docstring of each replacement
says which. A replacement serves all opsets unless `corrected` limits it.
"""

from __future__ import annotations

from onnx.reference.op_run import OpRun

from onnx_xcam.verification.reference.activations import Erf, Gelu, LogSoftmax, Softmax
from onnx_xcam.verification.reference.convolution import Conv, ConvTranspose
from onnx_xcam.verification.reference.indexing import GatherElements, Pad, ScatterElements
from onnx_xcam.verification.reference.normalisation import (
    LRN,
    BatchNormalization,
    GroupNormalization,
    LpNormalization,
    MeanVarianceNormalization,
)
from onnx_xcam.verification.reference.pooling import AveragePool, GlobalLpPool, GlobalMaxPool, MaxPool
from onnx_xcam.verification.reference.sampling import AffineGrid, GridSample, Resize


def corrected(opset: int) -> list[type[OpRun]]:
    """Return the operators that replace the evaluator's own at an opset."""
    operators: list[type[OpRun]] = [AveragePool, Conv, ConvTranspose, MaxPool, Erf, Gelu, GlobalMaxPool, LRN, Pad]
    operators += [GatherElements, GlobalLpPool, GroupNormalization, LpNormalization, MeanVarianceNormalization]
    operators += [AffineGrid, GridSample, Resize, ScatterElements]
    operators += [Softmax, LogSoftmax] if opset < 13 else []
    operators += [BatchNormalization] if opset < 14 else []
    return operators
