"""The ONNX reference evaluator, with its own implementations corrected where they are not what the specification says.

- Erf computes in float32 whatever its type; Gelu is a function over it.
- BatchNormalization before opset 14 mixes the batch's own statistics into the running ones.
- GlobalMaxPool takes the wrong axes unless there are two in space.
- LRN runs over as many channels as there are images.
- Pad knows no negative amounts.
- Softmax and LogSoftmax before opset 13 flatten the axes from `axis` on; it applies the later definition.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


class Erf(OpRun):
    op_domain = ""

    def _run(self, x):
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Gelu(OpRun):
    op_domain = ""

    def _run(self, x, approximate=None):
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / np.sqrt(2))),)


def _old_softmax(x: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    rows = x.reshape(int(np.prod(x.shape[: axis % x.ndim])), -1)
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return (powers / powers.sum(1, keepdims=True)).reshape(x.shape)


class Softmax(OpRun):
    op_domain = ""

    def _run(self, x, axis=None):
        return (_old_softmax(x, self.onnx_node),)


class LogSoftmax(OpRun):
    op_domain = ""

    def _run(self, x, axis=None):
        return (np.log(_old_softmax(x, self.onnx_node)),)


class BatchNormalization(OpRun):
    op_domain = ""

    def _run(self, x, *statistics, epsilon=None, **_):
        scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in statistics)
        return (scale * (x - mean) / np.sqrt(var + np.float32(epsilon)) + bias,)


class GlobalMaxPool(OpRun):
    op_domain = ""

    def _run(self, x):
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class LRN(OpRun):
    op_domain = ""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        before, after = (size - 1) // 2, size // 2
        sums = [(x[:, max(c - before, 0) : c + after + 1] ** 2).sum(1) for c in range(x.shape[1])]
        return (x / (bias + alpha / size * np.stack(sums, 1)) ** beta,)


class Pad(OpRun):
    op_domain = ""

    def _run(self, x, pads, value=None, axes=None, mode=None):
        axes = range(x.ndim) if axes is None else axes
        mode = mode or "constant"
        for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
            x = np.take(x, np.arange(max(-low, 0), x.shape[axis] - max(-high, 0)), axis)
            amounts = [(0, 0)] * x.ndim
            amounts[axis] = (max(low, 0), max(high, 0))
            fill = {"constant_values": 0 if value is None else np.asarray(value).item()} if mode == "constant" else {}
            x = np.pad(x, amounts, mode=mode, **fill)
        return (x,)


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The model's outputs, computed in the types that it states."""
    opset = next(o.version for o in model.opset_import if o.domain == "")
    corrected = [Erf, Gelu, GlobalMaxPool, LRN, Pad]
    corrected += [Softmax, LogSoftmax] if opset < 13 else []
    corrected += [BatchNormalization] if opset < 14 else []
    wanted = {i.name for i in model.graph.input}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(model, new_ops=corrected).run(
            None, {n: a for n, a in feeds.items() if n in wanted}
        )
    return [np.asarray(r) for r in results]
