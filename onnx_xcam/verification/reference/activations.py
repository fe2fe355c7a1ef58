"""This module holds corrected activation functions for the ONNX reference evaluator."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun


class Erf(OpRun):
    """Erf computes in the type of its input; the evaluator's own computes in float32."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Gelu(OpRun):
    """Gelu computes in the type of its input; the evaluator's own is a function over its float32 Erf."""

    op_domain = ""

    def _run(self, x: Any, approximate: Any = None) -> tuple[Any, ...]:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / np.sqrt(2))),)


def _old_softmax(x: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    """Return the softmax over all axes from the node's `axis` on, as before opset 13."""
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    rows = x.reshape(int(np.prod(x.shape[: axis % x.ndim])), -1)
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return np.asarray((powers / powers.sum(1, keepdims=True)).reshape(x.shape))


class Softmax(OpRun):
    """Softmax before opset 13 flattens the axes from `axis` on; the evaluator applies the later definition."""

    op_domain = ""

    def _run(self, x: Any, axis: Any = None) -> tuple[Any, ...]:
        return (_old_softmax(x, self.onnx_node),)


class LogSoftmax(OpRun):
    """LogSoftmax before opset 13 flattens the axes from `axis` on; the evaluator applies the later definition."""

    op_domain = ""

    def _run(self, x: Any, axis: Any = None) -> tuple[Any, ...]:
        return (np.log(_old_softmax(x, self.onnx_node)),)
