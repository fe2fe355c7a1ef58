"""This module lowers normalisations of ONNX Runtime, also with a sum before them, and newer ones of the standard.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from onnx_xcam.surgery.lowering.expansion import Expansion, lowering
from onnx_xcam.surgery.lowering.quantised import channels_first, channels_last

_LAYER_OPSET = 17
_RMS_OPSET = 23
"""The first opsets with LayerNormalization and RMSNormalization as standard operators."""


def _mean(e: Expansion, x: str, axes: list[int], output: str | None = None) -> str:
    """Emit the mean over axes, which are kept at size 1, and return its name."""
    if e.opset >= 18:
        return e.op("ReduceMean", [x, e.constant(axes, np.int64)], output)
    return e.op("ReduceMean", [x], output, axes=axes)


@dataclass(frozen=True)
class _Norm:
    """A _Norm emits y = scale x̂ + bias, where x̂ is x normalised over some axes; a bias of "" is none."""

    e: Expansion
    axes: list[int]
    epsilon: float
    scale: str
    bias: str = ""

    def layer(self, x: str, y: str, mean: str, inverse: str) -> None:
        """Emit y with x̂ = (x - mean) / d, d = sqrt(mean((x - mean)²) + epsilon), and mean and 1/d unless named ""."""
        self.rms(self.e.op("Sub", [x, _mean(self.e, x, self.axes, mean or None)]), y, inverse)

    def rms(self, x: str, y: str, inverse: str) -> None:
        """Emit y with x̂ = x / d, d = sqrt(mean(x²) + epsilon), and 1/d unless named ""."""
        e = self.e
        square = _mean(e, e.op("Mul", [x, x]), self.axes)
        deviation = e.op("Sqrt", [e.calculate("Add", square, self.epsilon)])
        if inverse:
            e.op("Reciprocal", [deviation], inverse)
        scaled = e.op("Mul", [e.op("Div", [x, deviation]), self.scale], None if self.bias else y)
        if self.bias:
            e.op("Add", [scaled, self.bias], y)


def _axes(e: Expansion, x: str) -> list[int] | None:
    """Return the axes from the attribute `axis` on, counted from the end, None if the rank is needed and unknown."""
    axis = int(e.attr("axis", -1))
    if axis < 0:
        return list(range(axis, 0))
    rank = e.rank(x)
    return None if rank is None else list(range(axis - rank, 0))


@lowering("LayerNormalization", domain="")
def layer_normalization(e: Expansion) -> None:
    """Lower LayerNormalization, which ONNX Runtime writes at opsets where the standard does not have it yet.

    Inputs: x, scale, bias. Outputs: y, mean, 1/deviation.
    """
    axes = _axes(e, e.input(0)) if e.opset < _LAYER_OPSET else None
    if axes is not None:
        norm = _Norm(e, axes, float(e.attr("epsilon", 1e-5)), e.input(1), e.input(2))
        norm.layer(e.input(0), e.output(0), e.output(1), e.output(2))


@lowering("SimplifiedLayerNormalization", domain="")
@lowering("SimplifiedLayerNormalization")
def simplified_layer_normalization(e: Expansion) -> None:
    """y = scale x / r with r = sqrt(mean(x²) + epsilon). Outputs: y, 1/r."""
    axes = _axes(e, e.input(0))
    if axes is not None:
        _rms(_Norm(e, axes, float(e.attr("epsilon", 1e-5)), e.input(1)), e.input(0), e.output(1))


def _rms(norm: _Norm, x: str, inverse: str) -> None:
    """Emit RMS normalisation as the node's first output, by the standard's operator where that can be."""
    e = norm.e
    if e.opset >= _RMS_OPSET and not inverse:
        e.op("RMSNormalization", [x, norm.scale], e.output(0), axis=norm.axes[0], epsilon=norm.epsilon)
    else:
        norm.rms(x, e.output(0), inverse)


@lowering("SkipLayerNormalization")
def skip_layer_normalization(e: Expansion) -> None:
    """s = x + skip + b;  y = gamma (s - mean) / deviation + beta, over the last axis.

    Inputs: x, skip, gamma, beta, b, of which the last two are optional. Outputs: y, mean, 1/deviation, s.
    """
    s, epsilon = _sum(e, 4), float(e.attr("epsilon", 1e-12))
    outputs = e.output(0), e.output(1), e.output(2)
    if e.opset >= _LAYER_OPSET:
        e.ops("LayerNormalization", [s, e.input(2), e.input(3)], outputs, axis=-1, epsilon=epsilon)
    else:
        _Norm(e, [-1], epsilon, e.input(2), e.input(3)).layer(s, *outputs)


@lowering("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(e: Expansion) -> None:
    """s = x + skip + b;  y = gamma s / sqrt(mean(s²) + epsilon), over the last axis.

    Inputs: x, skip, gamma, b, of which the last is optional. Outputs: y, none, 1/deviation, s.
    """
    _rms(_Norm(e, [-1], float(e.attr("epsilon", 1e-12)), e.input(2)), _sum(e, 3), e.output(2))


def _sum(e: Expansion, bias: int) -> str:
    """Return x + skip + b, where b is the optional input `bias`; it is the fourth output if that is asked for."""
    name = e.output(3) or None
    if not e.has_input(bias):
        return e.op("Add", [e.input(0), e.input(1)], name)
    return e.op("Add", [e.op("Add", [e.input(0), e.input(1)]), e.input(bias)], name)


@lowering("GroupNorm", "SkipGroupNorm")
def group_norm(e: Expansion) -> None:
    """y = f(gamma x̂ + beta), where x̂ is x normalised over space and each group of channels, and f is SiLU or nothing.

    x is `[N,H,W,C]` unless `channels_last` is 0. SkipGroupNorm first adds input 3, and input 4 if given, to x; output 1
    is the sum.
    """
    x, last = e.input(0), bool(e.attr("channels_last", 1))
    if e.node.op_type == "SkipGroupNorm":
        x = _skipped(e, last)
    first = channels_first(e, x, 4) if last else x
    y = _grouped(e, first)
    if e.attr("activation", 0):
        y = e.op("Mul", [y, e.op("Sigmoid", [y])], None if last else e.output(0))
    elif not last:
        e.op("Identity", [y], e.output(0))
    if last:
        channels_last(e, y, 4, e.output(0))


def _skipped(e: Expansion, last: bool) -> str:
    """Return x + skip + b, where skip may be `[N,C]`, and b is `[C]` and optional."""
    skip, bias = e.input(3), e.input(4)
    if e.rank(skip) == 2:
        skip = e.op("Reshape", [skip, e.constant([0, 1, 1, -1] if last else [0, -1, 1, 1], np.int64)])
    if not bias:
        return e.op("Add", [e.input(0), skip], e.output(1) or None)
    if not last:
        bias = e.op("Reshape", [bias, e.constant([-1, 1, 1], np.int64)])
    return e.op("Add", [e.op("Add", [e.input(0), skip]), bias], e.output(1) or None)


def _grouped(e: Expansion, x: str) -> str:
    """Return the group normalisation of x `[N,C,H,W]`, by an InstanceNormalization with a channel for each group."""
    groups, epsilon = int(e.attr("groups")), float(e.attr("epsilon", 1e-5))
    flat = e.op("Reshape", [x, e.constant([0, groups, -1], np.int64)])
    ones, zeros = e.number(np.ones(groups), x), e.number(np.zeros(groups), x)
    normal = e.op("InstanceNormalization", [flat, ones, zeros], epsilon=epsilon)
    normal = e.op("Reshape", [normal, e.op("Shape", [x])])
    gamma, beta = (_by_channel(e, index, x) for index in (1, 2))
    return e.op("Add", [e.op("Mul", [normal, gamma]), beta])


def _by_channel(e: Expansion, index: int, x: str) -> str:
    """Return the vector `[C]` at an input as `[C,1,1]`, in the element type of x; as input it is always float32."""
    vector = e.op("Reshape", [e.input(index), e.constant([-1, 1, 1], np.int64)])
    kind = e.element(x)
    return vector if kind == TensorProto.FLOAT else e.op("Cast", [vector], to=kind)
