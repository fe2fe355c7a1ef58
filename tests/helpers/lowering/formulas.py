"""Operators that ONNX Runtime's CPU has no kernel for, written plainly in numpy from their documentation.

https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf
from typing import Any

import numpy as np

Arrays = list[Any]


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def _conv_nhwc(x: np.ndarray, w: np.ndarray, pads: list[int]) -> np.ndarray:
    """x `[N,H,W,C]`, w `[M,H,W,C]`; stride 1."""
    x = np.pad(x, [(0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)])
    height, width = x.shape[1] - w.shape[1] + 1, x.shape[2] - w.shape[2] + 1
    y = np.zeros((x.shape[0], height, width, w.shape[0]), x.dtype)
    for i in range(height):
        for j in range(width):
            window = x[:, i : i + w.shape[1], j : j + w.shape[2]]
            y[:, i, j] = np.einsum("nhwc,mhwc->nm", window, w)
    return y


def _nhwc_conv(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    y = _conv_nhwc(arrays[0], arrays[1], attributes["pads"])
    return [y if len(arrays) < 3 else y + arrays[2]]


def _nhwc_fused_conv(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    y = _conv_nhwc(arrays[0], arrays[1].transpose(0, 2, 3, 1), attributes["pads"])
    for array in arrays[2:]:
        y = y + array
    return [_relu(y) if attributes.get("activation") == "Relu" else y]


def _fused_conv_silu(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    x, w, b = arrays
    y = _conv_nhwc(x.transpose(0, 2, 3, 1), w.transpose(0, 2, 3, 1), attributes["pads"]) + b
    return [_silu(y).transpose(0, 3, 1, 2)]


def _matmul_activation(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    a, b = arrays
    return [_relu(attributes["alpha"] * a @ b.swapaxes(-1, -2))]


def _fast_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(0.797885 * x + 0.035677 * x * x * x))


def _gemm_fast_gelu(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    y = arrays[0] @ arrays[1]
    return [_fast_gelu(y if len(arrays) < 3 else y + arrays[2])]


def _bias_split_gelu(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    left, right = np.split(arrays[0] + arrays[1], 2, axis=-1)
    return [left * 0.5 * right * (1 + np.vectorize(erf)(right / np.sqrt(2)))]


def _bias_softmax(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    x = np.exp(arrays[0] + arrays[1])
    return [x / x.sum(axis=tuple(range(attributes["axis"] % x.ndim, x.ndim)), keepdims=True)]


def _bias_add(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    return [arrays[0] + arrays[1] + arrays[2]]


def _dropout(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    return [arrays[0]]


def _group_norm(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    x, gamma, beta = arrays[:3]
    last = attributes.get("channels_last", 1)
    x = x if last else x.transpose(0, 2, 3, 1)
    size = x.shape[-1] // attributes["groups"]
    y = np.empty_like(x)
    for image in range(x.shape[0]):
        for start in range(0, x.shape[-1], size):
            group = x[image, ..., start : start + size]
            y[image, ..., start : start + size] = (group - group.mean()) / np.sqrt(
                group.var() + attributes.get("epsilon", 1e-5)
            )
    y = y * gamma + beta
    y = _silu(y) if attributes["activation"] else y
    return [y if last else y.transpose(0, 3, 1, 2)]


def _skip_group_norm(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    x, gamma, beta, skip, *bias = arrays
    skip = skip[:, None, None] if skip.ndim == 2 else skip
    total = x + skip + (bias[0] if bias else 0)
    return [*_group_norm([total, gamma, beta], attributes), total]


def _packed_attention(arrays: Arrays, attributes: dict[str, Any]) -> Arrays:
    """Queries, keys and values in one tensor `[N,T,heads,3,size]`, or queries `[N,T,C]` and the others in one."""
    if len(arrays) == 1:
        q, k, v = (arrays[0][:, :, :, i] for i in range(3))
    else:
        heads = attributes["num_heads"]
        q = arrays[0].reshape(*arrays[0].shape[:2], heads, -1)
        k, v = (arrays[1][:, :, :, i] for i in range(2))
    scores = np.exp(np.einsum("nshc,nthc->nhst", q, k) / np.sqrt(q.shape[-1]))
    y = np.einsum("nhst,nthc->nshc", scores / scores.sum(-1, keepdims=True), v)
    return [y.reshape(*y.shape[:2], -1)]


FORMULAS: dict[str, Callable[[Arrays, dict[str, Any]], Arrays]] = {
    "NhwcConv": _nhwc_conv,
    "NhwcFusedConv": _nhwc_fused_conv,
    "FusedConv": _fused_conv_silu,
    "FusedMatMulActivation": _matmul_activation,
    "GemmFastGelu": _gemm_fast_gelu,
    "BiasSplitGelu": _bias_split_gelu,
    "BiasSoftmax": _bias_softmax,
    "BiasAdd": _bias_add,
    "BitmaskDropout": _dropout,
    "GroupNorm": _group_norm,
    "SkipGroupNorm": _skip_group_norm,
    "MultiHeadAttention": _packed_attention,
}
