"""This module lowers attention that ONNX Runtime computes in one operator.

    y = softmax(scale q kᵀ + mask + bias) v        for each head

A node that takes keys and values of earlier runs, as text generation does, is left as it is, and so is one with a mask
that is given as lengths.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_xcam.surgery.lowering.expansion import Expansion, lowering
from onnx_xcam.surgery.lowering.quantised import dequantised_weight

_FAR = -10000.0
"""The number that is added to, or put in place of, the score of a masked key; the softmax makes it 0."""
_PACKED = 5
"""The rank of packed keys and values, `[N,T,heads,2,size]`, and of packed queries, keys and values (3 for 2)."""


@lowering("Attention")
def attention(e: Expansion) -> None:
    """Lower Attention, which projects x `[N,T,I]` to queries, keys and values with weights `[I,Q+K+V]`.

    Inputs: x, weights, bias, mask, earlier keys and values, attention bias, length of these.
    """
    sizes = _sizes(e, e.input(1))
    if sizes is None or e.attr("do_rotary", 0) or e.has_input(4) or e.has_output(1) or not _has_plain_mask(e, 3):
        return
    _projected(e, e.op("MatMul", [e.input(0), e.input(1)]), sizes, mask=e.input(3), bias=e.input(5))


@lowering("QAttention")
def quantised_attention(e: Expansion) -> None:
    """Lower QAttention, which is Attention with quantised x and weights.

    Inputs: x, weights, bias, scales of x and of weights, mask, zero points of x and of weights, earlier keys and
    values.
    """
    sizes = _sizes(e, e.input(1))
    if sizes is None or e.attr("do_rotary", 0) or e.has_input(8) or e.has_output(1) or not _has_plain_mask(e, 5):
        return
    x = e.dequantized(e.input(0), e.input(3), e.input(6))
    weights = dequantised_weight(e, (e.input(1), e.input(4), e.input(7)), 1)
    _projected(e, e.op("MatMul", [x, weights]), sizes, mask=e.input(5), bias="")


def _sizes(e: Expansion, weights: str) -> list[int] | None:
    """Return how many columns of the weights belong to queries, keys and values, None where it is not known."""
    given = e.attr("qkv_hidden_sizes")
    if given:
        return [int(size) for size in given]
    columns = (e.shape(weights) or (None,))[-1]
    return [columns // 3] * 3 if isinstance(columns, int) else None


def _projected(e: Expansion, qkv: str, sizes: list[int], mask: str, bias: str) -> None:
    """Emit attention for a projection `[N,T,Q+K+V]`, after the node's third input, a bias, is added to it."""
    if e.has_input(2):
        qkv = e.op("Add", [qkv, e.input(2)])
    heads = [_by_head(e, part) for part in _split(e, qkv, sizes)]
    _attend(e, heads, sizes[0] // int(e.attr("num_heads")), mask, bias)


def _split(e: Expansion, x: str, sizes: list[int]) -> list[str]:
    """Return the parts of these sizes of x along its last axis."""
    if e.opset >= 13:
        return e.ops("Split", [x, e.constant(sizes, np.int64)], [None] * len(sizes), axis=-1)
    return e.ops("Split", [x], [None] * len(sizes), axis=-1, split=sizes)


@lowering("MultiHeadAttention")
def multi_head_attention(e: Expansion) -> None:
    """Lower MultiHeadAttention, which takes queries, keys and values.

    Queries are `[N,T,Q]`, or contain keys and values too, `[N,T,heads,3,size]`. Keys are `[N,T,K]`, or contain values
    too, `[N,T,heads,2,size]`, or are split into heads already, `[N,heads,T,size]`.

    Inputs: queries, keys, values, bias, mask, attention bias, earlier keys and values, and two that describe these.
    """
    others = any(e.has_input(index) for index in range(6, 10)) or any(e.has_output(index) for index in (1, 2, 3))
    shape = e.shape(e.input(0))
    if others or shape is None or not _has_plain_mask(e, 4):
        return
    size = shape[-1]
    if len(shape) != _PACKED and isinstance(size, int):
        size = size // int(e.attr("num_heads"))
    heads = _three_by_head(e, len(shape))
    if isinstance(size, int) and heads is not None:
        _attend(e, heads, size, e.input(4), e.input(5))


def _three_by_head(e: Expansion, rank: int) -> list[str] | None:
    """Return queries, keys and values, each `[N,heads,T,size]`, None where their layout is not supported."""
    if rank == _PACKED:
        return None if e.has_input(3) else [_unpacked(e, e.input(0), index) for index in range(3)]
    query, of_keys, biases = e.input(0), e.rank(e.input(1)), _biases(e)
    if biases is None or (of_keys != 3 and any(biases[1:])):
        return None
    if of_keys == _PACKED:
        return [_by_head(e, query, biases[0]), *(_unpacked(e, e.input(1), index) for index in range(2))]
    if of_keys == 4:
        return [_by_head(e, query, biases[0]), e.input(1), e.input(2)]
    return [_by_head(e, e.input(index), biases[index]) for index in range(3)] if e.has_input(2) else None


def _biases(e: Expansion) -> list[str] | None:
    """Return the biases of queries, keys and values, "" for none; None where the sizes of the parts are unknown."""
    if not e.has_input(3):
        return ["", "", ""]
    total, hidden = ((e.shape(e.input(index)) or (None,))[-1] for index in (3, 0))
    if not isinstance(total, int) or not isinstance(hidden, int):
        return None
    return _split(e, e.input(3), [hidden, hidden, total - 2 * hidden])


def _by_head(e: Expansion, x: str, bias: str = "") -> str:
    """Return x `[N,T,heads size]`, plus a bias unless it is "", as `[N,heads,T,size]`."""
    if bias:
        x = e.op("Add", [x, bias])
    shape = e.constant([0, 0, int(e.attr("num_heads")), -1], np.int64)
    return e.op("Transpose", [e.op("Reshape", [x, shape])], perm=[0, 2, 1, 3])


def _unpacked(e: Expansion, x: str, index: int) -> str:
    """Return part `index` of a tensor with n parts, `[N,T,heads,n,size]`, as `[N,heads,T,size]`."""
    return e.op("Transpose", [e.op("Gather", [x, e.constant(index, np.int64)], axis=3)], perm=[0, 2, 1, 3])


def _attend(e: Expansion, heads: Sequence[str], size: int, mask: str, bias: str) -> None:
    """Emit y = softmax(scale q kᵀ + mask + bias) v for `heads`: q, k and v, each `[N,heads,T,size]`."""
    query, key, value = heads
    scores = e.op("MatMul", [query, e.op("Transpose", [key], perm=[0, 1, 3, 2])])
    scores = e.calculate("Mul", scores, float(e.attr("scale", 0.0)) or 1 / sqrt(size))
    if mask:
        scores = e.op("Add", [scores, _raw_mask(e, mask, scores)])
    if bias:
        scores = e.op("Add", [scores, bias])
    if e.attr("unidirectional", 0):
        scores = e.op("Where", [_later(e, scores), e.number(_FAR, scores), scores])
    y = e.op("MatMul", [e.op("Softmax", [scores], axis=-1 if e.opset >= 13 else 3), value])
    y = e.op("Transpose", [y], perm=[0, 2, 1, 3])
    e.op("Reshape", [y, e.constant([0, 0, -1], np.int64)], e.output(0))


def _has_plain_mask(e: Expansion, index: int) -> bool:
    """Tell whether the mask at an input can be lowered: it is none, or one of zeros and ones.

    A causal mask (`unidirectional`) needs Trilu, and so opset 14.
    """
    masked = e.has_input(index) and e.rank(e.input(index)) not in (2, 3)
    return not masked and not (e.attr("unidirectional", 0) and e.opset < 14)


def _raw_mask(e: Expansion, mask: str, scores: str) -> str:
    """Return what a mask of zeros and ones, `[N,T]` or `[N,S,T]`, adds to the scores: a large negative number for 0."""
    far = float(e.attr("mask_filter_value", _FAR))
    kept = e.op("Cast", [mask], to=onnx.TensorProto.BOOL)
    added = e.op("Where", [kept, e.number(0, scores), e.number(far, scores)])
    if e.rank(mask) == 2:
        return e.op("Reshape", [added, e.constant([0, 1, 1, -1], np.int64)])
    return e.unsqueeze(added, [1])


def _later(e: Expansion, scores: str) -> str:
    """Return a bool tensor `[N,heads,T,T]` that is true where the key comes after the query."""
    one = numpy_helper.from_array(np.ones(1, np.int64))
    ones = e.op("ConstantOfShape", [e.op("Shape", [scores])], value=one)
    return e.op("Cast", [e.op("Trilu", [ones, e.constant(1, np.int64)], upper=1)], to=onnx.TensorProto.BOOL)
