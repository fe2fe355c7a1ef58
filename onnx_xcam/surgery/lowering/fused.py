"""This module lowers convolutions and products that ONNX Runtime fuses with activations, or computes in NHWC.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from onnx_xcam.surgery.lowering.activations import gelu
from onnx_xcam.surgery.lowering.expansion import Expansion, lowering
from onnx_xcam.surgery.lowering.quantised import channels_first, channels_last

_SIMPLE = frozenset({"Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "Elu", "Selu", "Softplus", "Softsign"})
_PARAMETERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max")}
"""The parameters of an activation in the order in which a fused convolution's `activation_params` gives them."""


def _clip(e: Expansion, x: str, y: str, parameters: dict[str, Any]) -> None:
    """y = min(max(x, low), high), with the bounds as inputs."""
    e.op("Clip", [x, e.number(parameters["min"], x), e.number(parameters["max"], x)], y)


def _silu(e: Expansion, x: str, y: str, parameters: dict[str, Any]) -> None:
    """y = x sigmoid(x)."""
    e.op("Mul", [x, e.op("Sigmoid", [x])], y)


def _scaled_tanh(e: Expansion, x: str, y: str, parameters: dict[str, Any]) -> None:
    """y = alpha tanh(beta x)."""
    inner = e.op("Tanh", [e.calculate("Mul", x, parameters["beta"])])
    e.calculate("Mul", inner, parameters["alpha"], y)


def _parametric_softplus(e: Expansion, x: str, y: str, parameters: dict[str, Any]) -> None:
    """y = alpha log(exp(beta x) + 1)."""
    inner = e.op("Softplus", [e.calculate("Mul", x, parameters["beta"])])
    e.calculate("Mul", inner, parameters["alpha"], y)


_SPELLED: dict[str, Callable[[Expansion, str, str, dict[str, Any]], None]] = {
    "Clip": _clip,
    "Silu": _silu,
    "ScaledTanh": _scaled_tanh,
    "ParametricSoftplus": _parametric_softplus,
}
ACTIVATIONS = _SIMPLE | {"ThresholdedRelu", *_SPELLED}
"""The activations that ONNX Runtime fuses into a convolution or a product."""


def _activated(e: Expansion, make: Callable[[str | None], str], activation: str, parameters: dict[str, Any]) -> None:
    """Emit the node's output: what `make(name)` adds under that name, or an activation of what `make(None)` adds."""
    y = e.node.output[0]
    if not activation:
        make(y)
    elif activation in _SPELLED:
        _SPELLED[activation](e, make(None), y, parameters)
    else:
        e.op(activation, [make(None)], y, **parameters)


# --- convolution ------------------------------------------------------------------------------------------------------


@lowering("FusedConv", "NhwcFusedConv", "NhwcConv")
def fused_conv(e: Expansion) -> None:
    """y = f(conv(x, w) + b + z), where b and z are optional.

    x, z and y are `[N,H,W,C]` in operators named Nhwc. The weights are `[M,H,W,C]` in NhwcConv, as its CUDA kernels
    have them, and `[M,C,H,W]` in the others.
    """
    activation = str(e.attr("activation", ""))
    if activation and activation not in ACTIVATIONS:
        return
    last = e.node.op_type.startswith("Nhwc")
    parameters = dict(zip(_PARAMETERS.get(activation, ()), e.attr("activation_params", ()), strict=False))
    rank = e.rank(e.input(1)) or 4
    weights = channels_first(e, e.input(1), rank) if e.node.op_type == "NhwcConv" else e.input(1)

    def convolved(name: str | None) -> str:
        x = channels_first(e, e.input(0), rank) if last else e.input(0)
        inner = None if last or e.has_input(3) else name
        y = e.op("Conv", [x, weights, e.input(2)], inner, **e.attributes("activation", "activation_params"))
        if last:
            y = channels_last(e, y, rank, None if e.has_input(3) else name)
        return e.op("Add", [y, e.input(3)], name) if e.has_input(3) else y

    _activated(e, convolved, activation, parameters)


# --- products ---------------------------------------------------------------------------------------------------------


@lowering("FusedGemm")
def fused_gemm(e: Expansion) -> None:
    """y = f(alpha a b + beta c), where a and b may be transposed first."""
    activation = str(e.attr("activation", ""))
    if activation and activation not in ACTIVATIONS:
        return
    own = e.attributes()
    parameters = {n.removeprefix("activation_"): v for n, v in own.items() if n.startswith("activation_")}
    attributes = {n: v for n, v in own.items() if not n.startswith("activation")}
    _activated(e, lambda name: e.op("Gemm", list(e.node.input), name, **attributes), activation, parameters)


@lowering("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation")
def fused_matmul(e: Expansion) -> None:
    """y = f(alpha a b), where a and b may be transposed first.

    `transA` exchanges the last two axes of a, and `transBatchA` moves its first axis to before the last; likewise for
    b.
    """
    activation = str(e.attr("activation", ""))
    ranks = [e.rank(e.input(index)) for index in (0, 1)]
    if (activation and activation not in ACTIVATIONS) or None in ranks:
        return
    parameters = {n.removeprefix("activation_"): v for n, v in e.attributes().items() if n.startswith("activation_")}
    alpha = float(e.attr("alpha", 1.0))

    def product(name: str | None) -> str:
        operands = [_transposed(e, index, rank or 0) for index, rank in enumerate(ranks)]
        y = e.op("MatMul", operands, name if alpha == 1 else None)
        return y if alpha == 1 else e.calculate("Mul", y, alpha, name)

    _activated(e, product, activation, parameters)


def _transposed(e: Expansion, index: int, rank: int) -> str:
    """Return an operand of a product, transposed as the node's attributes say."""
    x, letter = e.input(index), "AB"[index]
    axes = list(range(rank))
    if e.attr(f"transBatch{letter}", 0) and rank > 2:
        axes = [*axes[1:-1], 0, axes[-1]]
    if e.attr(f"trans{letter}", 0) and rank > 1:
        axes[-2:] = axes[:-3:-1]
    return x if axes == list(range(rank)) else e.op("Transpose", [x], perm=axes)


@lowering("GemmFastGelu")
def gemm_fast_gelu(e: Expansion) -> None:
    """y = gelu(x w + b) by the tanh approximation, where b is optional."""
    y = e.op("MatMul", [e.input(0), e.input(1)])
    gelu(e, e.op("Add", [y, e.input(2)]) if e.has_input(2) else y, e.node.output[0], tanh=True)
