"""This module lowers operators on quantised integers to DequantizeLinear, the float operator, and QuantizeLinear.

These are ONNX's QLinearConv, QLinearMatMul, ConvInteger and MatMulInteger, and those that ONNX Runtime adds. ONNX
Runtime itself converts between them and the QDQ form in the same way.

Definitions: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from onnx_xcam.surgery.lowering.expansion import Expansion, Lowering, lowering, pattern

_FLOAT = onnx.TensorProto.FLOAT


def channels_first(e: Expansion, x: str, rank: int) -> str:
    """Return x `[N, ..., C]` of this rank as `[N, C, ...]`."""
    return e.op("Transpose", [x], perm=[0, rank - 1, *range(1, rank - 1)])


def channels_last(e: Expansion, x: str, rank: int, output: str | None = None) -> str:
    """Return x `[N, C, ...]` of this rank as `[N, ..., C]`."""
    return e.op("Transpose", [x], output, perm=[0, *range(2, rank), 1])


@lowering("QuantizeLinear", "DequantizeLinear")
def standard(e: Expansion) -> None:
    """Replace ONNX Runtime's QuantizeLinear and DequantizeLinear, which take more types, by the standard's."""
    e.op(e.node.op_type, list(e.node.input), e.node.output[0], **e.attributes())


# --- convolution and products -----------------------------------------------------------------------------------------


def dequantised_weight(e: Expansion, weight: tuple[str, str, str], axis: int) -> str:
    """Return the float of a quantised weight with one scale, or one for each channel along an axis.

    Args:
        e: the expansion that takes the nodes.
        weight: the names of the integers, their scales and their zero points.
        axis: the axis of the channels.
    """
    return e.dequantized(*weight, None if _is_single(e, weight[1]) else axis)


def _is_single(e: Expansion, name: str) -> bool:
    """Tell whether a scale or a zero point is known to be one number, and not one for each channel."""
    shape = e.shape(name)
    return shape is not None and all(dim == 1 for dim in shape)


def _quantised_input(e: Expansion, index: int) -> tuple[str, str, str]:
    """Return the names of a quantised input, its scale and its zero point, which are consecutive inputs."""
    return e.input(index), e.input(index + 1), e.input(index + 2)


def _bias(e: Expansion, bias: str, x_scale: str, w_scale: str, alpha: float = 1.0) -> str:
    """Return the float of an int32 bias, which has the scale alpha times the product of the scales of x and w."""
    scale = e.op("Mul", [x_scale, w_scale])
    if alpha != 1:
        scale = e.op("Mul", [scale, e.constant(alpha)])
    return e.op("Mul", [e.op("Cast", [bias], to=_FLOAT), scale])


@lowering("QLinearConv", domain="")
@lowering("QLinearConv")
def qlinear_conv(e: Expansion) -> None:
    """Lower QLinearConv, a convolution of quantised tensors.

    Inputs: x, its scale and zero point; w, its scale and zero point; the scale and zero point of y; bias.
    """
    x, w = e.dequantize(0), dequantised_weight(e, _quantised_input(e, 3), 0)
    rank = e.rank(e.input(3)) or 4
    last = bool(e.attr("channels_last", 0))
    operands = [channels_first(e, x, rank) if last else x, w]
    if e.has_input(8):
        operands.append(_bias(e, e.input(8), e.input(1), e.input(4)))
    y = e.op("Conv", operands, **e.attributes("channels_last"))
    e.quantize(channels_last(e, y, rank) if last else y, 6)


@lowering("QLinearMatMul", domain="")
def qlinear_matmul(e: Expansion) -> None:
    """Lower QLinearMatMul, in which each row of a and each column of b may have a scale of its own.

    Inputs: a, its scale and zero point; b, its scale and zero point; the scale and zero point of y.
    """
    e.quantize(
        e.op(
            "MatMul",
            [dequantised_weight(e, _quantised_input(e, 0), -2), dequantised_weight(e, _quantised_input(e, 3), -1)],
        ),
        6,
    )


@lowering("QGemm")
def qgemm(e: Expansion) -> None:
    """Lower QGemm, a Gemm of quantised tensors, with a float output if no scale is given for it.

    Inputs: a, its scale and zero point; b, its scale and zero point; c in int32; the scale and zero point of y.
    """
    alpha = float(e.attr("alpha", 1.0))
    operands = [e.dequantize(0), dequantised_weight(e, _quantised_input(e, 3), 0 if e.attr("transB", 0) else 1)]
    if e.has_input(6):
        operands.append(_bias(e, e.input(6), e.input(1), e.input(4), alpha))
    if e.has_input(7):
        e.quantize(e.op("Gemm", operands, **e.attributes()), 7)
    else:
        e.op("Gemm", operands, e.node.output[0], **e.attributes())


def _shifted(e: Expansion, q: str, zero_point: str, axis: int | None = None) -> str:
    """Return q minus its zero point, as float; with `axis`, the zero point may be one for each position along it."""
    value = e.op("Cast", [q], to=_FLOAT)
    if not zero_point:
        return value
    shift = e.op("Cast", [zero_point], to=_FLOAT)
    if axis is not None and not _is_single(e, zero_point):
        rank = e.rank(q) or 2
        sizes = [-1 if a == axis % rank else 1 for a in range(rank)]
        shift = e.op("Reshape", [shift, e.constant(sizes, np.int64)])
    return e.op("Sub", [value, shift])


@lowering("ConvInteger", domain="")
def conv_integer(e: Expansion) -> None:
    """Lower ConvInteger; its int32 output becomes the float of the same value.

    Inputs: x, w, and their zero points.
    """
    operands = [_shifted(e, e.input(0), e.input(2)), _shifted(e, e.input(1), e.input(3), 0)]
    e.op("Conv", operands, e.node.output[0], **e.attributes())
    e.context.inner.add(e.node.output[0])


@lowering("MatMulInteger", domain="")
def matmul_integer(e: Expansion) -> None:
    """Lower MatMulInteger; its int32 output becomes the float of the same value.

    Inputs: a, b, and their zero points.
    """
    operands = [_shifted(e, e.input(0), e.input(2), -2), _shifted(e, e.input(1), e.input(3), -1)]
    e.op("MatMul", operands, e.node.output[0])
    e.context.inner.add(e.node.output[0])


@lowering("MatMulIntegerToFloat")
def matmul_integer_to_float(e: Expansion) -> None:
    """Lower MatMulIntegerToFloat. Inputs: a, b, their scales, their zero points, bias."""
    a = e.dequantized(e.input(0), e.input(2), e.input(4))
    b = dequantised_weight(e, (e.input(1), e.input(3), e.input(5)), -1)
    _product(e, "MatMul", a, b, e.input(6))


@lowering("DynamicQuantizeMatMul")
def dynamic_quantize_matmul(e: Expansion) -> None:
    """Lower DynamicQuantizeMatMul. Inputs: a in float; b, its scale and zero point; bias."""
    b = dequantised_weight(e, (e.input(1), e.input(2), e.input(3)), -1)
    _product(e, "MatMul", e.input(0), b, e.input(4))


def _product(e: Expansion, op: str, a: str, b: str, bias: str, **attributes: Any) -> None:
    """Emit a product, plus a bias unless it is "", as the node's first output."""
    y = e.node.output[0]
    product = e.op(op, [a, b], None if bias else y, **attributes)
    if bias:
        e.op("Add", [product, bias], y)


@pattern
def dynamic_products(nodes: Sequence[onnx.NodeProto]) -> dict[str, Lowering]:
    """Find products of a float that is quantised with a scale of its own, multiplied as integers, and scaled back.

    DynamicQuantizeLinear gives x_q, s, z;  y = Cast(MatMulInteger(x_q, w, z, ...)) (s w_scale), or ConvInteger. The
    group is lowered to the product of x itself: nothing is clipped, and the scale cancels.
    """
    made = {name: node for node in nodes for name in node.output if name}
    lowerings: dict[str, Lowering] = {}
    for node in nodes:
        if node.op_type != "Mul" or len(node.input) != 2:
            continue
        cast, scales = (made.get(name) for name in node.input)
        if cast is None or cast.op_type != "Cast" or scales is None or scales.op_type != "Mul":
            continue
        product = made.get(cast.input[0])
        if product is None or product.op_type not in ("MatMulInteger", "ConvInteger"):
            continue
        dynamic = made.get(product.input[0])
        if dynamic is not None and dynamic.op_type == "DynamicQuantizeLinear" and dynamic.output[1] in scales.input:
            other = next(name for name in (*scales.input, "") if name != dynamic.output[1])
            lowerings[node.output[0]] = _dynamic_product(product, dynamic.input[0], other)
    return lowerings


def _dynamic_product(product: onnx.NodeProto, x: str, scale: str) -> Lowering:
    """Return the lowering of a product of integers to the product of the float x and the dequantised weight."""

    def lower(e: Expansion) -> None:
        zero_point = product.input[3] if len(product.input) > 3 else ""
        weight = (product.input[1], scale, zero_point)
        if product.op_type == "MatMulInteger":
            _product(e, "MatMul", x, dequantised_weight(e, weight, -1), "")
            return
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in product.attribute}
        _product(e, "Conv", x, e.dequantized(*weight), "", **attributes)

    return lower


# --- element by element -----------------------------------------------------------------------------------------------


@lowering("QLinearAdd", "QLinearMul")
def qlinear_binary(e: Expansion) -> None:
    """Lower QLinearAdd or QLinearMul, the sum or product of quantised tensors.

    Inputs: a, its scale and zero point; b, its scale and zero point; the scale and zero point of y.
    """
    op = e.node.op_type.removeprefix("QLinear")
    e.quantize(e.op(op, [e.dequantize(0), e.dequantize(3)]), 6)


@lowering("QLinearSigmoid", "QLinearLeakyRelu")
def qlinear_unary(e: Expansion) -> None:
    """Lower QLinearSigmoid or QLinearLeakyRelu, an activation of a quantised tensor.

    Inputs: x, its scale and zero point; the scale and zero point of y.
    """
    e.quantize(e.op(e.node.op_type.removeprefix("QLinear"), [e.dequantize(0)], **e.attributes()), 3)


@lowering("QLinearSoftmax")
def qlinear_softmax(e: Expansion) -> None:
    """Lower QLinearSoftmax, which before opset 13 flattens the axes from `axis` on together.

    Inputs: x, its scale and zero point; the scale and zero point of y.
    """
    x, since = e.dequantize(0), int(e.attr("opset", e.opset))
    axis = int(e.attr("axis", -1))
    if (since >= 13) == (e.opset >= 13):
        e.quantize(e.op("Softmax", [x], axis=axis), 3)
        return
    flat = e.op("Softmax", [e.op("Flatten", [x], axis=axis)], axis=-1)
    e.quantize(e.op("Reshape", [flat, e.op("Shape", [x])]), 3)


@lowering("QLinearWhere")
def qlinear_where(e: Expansion) -> None:
    """Lower QLinearWhere, which chooses between quantised tensors x and y.

    Inputs: the condition; x, its scale and zero point; y, its scale and zero point; the scale and zero point of z.
    """
    e.quantize(e.op("Where", [e.input(0), e.dequantize(1), e.dequantize(4)]), 7)


@lowering("QLinearConcat")
def qlinear_concat(e: Expansion) -> None:
    """Lower QLinearConcat. Inputs: the scale and zero point of y; then each operand, its scale and zero point."""
    operands = [e.dequantize(index) for index in range(2, len(e.node.input), 3)]
    e.quantize(e.op("Concat", operands, axis=e.attr("axis")), 0)


# --- pools ------------------------------------------------------------------------------------------------------------


@lowering("QLinearGlobalAveragePool", "QLinearAveragePool")
def qlinear_pool(e: Expansion) -> None:
    """Lower QLinearGlobalAveragePool or QLinearAveragePool, a pooling of a quantised tensor.

    Inputs: x, its scale and zero point; the scale and zero point of y.
    """
    op, last = e.node.op_type.removeprefix("QLinear"), bool(e.attr("channels_last", 0))
    rank = e.rank(e.input(0)) or 4
    x = e.dequantize(0)
    y = e.op(op, [channels_first(e, x, rank) if last else x], **e.attributes("channels_last"))
    e.quantize(channels_last(e, y, rank) if last else y, 3)


@lowering("NhwcMaxPool")
def nhwc_max_pool(e: Expansion) -> None:
    """Lower NhwcMaxPool, which pools x `[N, ..., C]` on the integers themselves."""
    rank = len(e.attr("kernel_shape")) + 2
    y = e.op("MaxPool", [channels_first(e, e.input(0), rank)], **e.attributes())
    channels_last(e, y, rank, e.node.output[0])


# --- weights of few bits ----------------------------------------------------------------------------------------------


@lowering("MatMulNBits")
def matmul_n_bits(e: Expansion) -> None:
    """Lower MatMulNBits: a in float times a weight `[N, K]` with rows in blocks of 4 or 8 bits, each block scaled.

    Two values of 4 bits share a byte. Inputs: a; b uint8 `[N, blocks, bytes]`; scales `[N, blocks]`; zero points
    (packed like b, or float); g_idx; bias.
    """
    bits, k, n, block = (int(e.attr(name)) for name in ("bits", "K", "N", "block_size"))
    if bits not in (4, 8) or e.has_input(4):
        return
    blocks = -(-k // block)
    values = _unpacked(e, e.input(1), bits, [n, blocks, block])
    if not e.has_input(3):
        shift = e.constant(float(1 << (bits - 1)))
    elif e.context.constants.element(e.input(3)) == onnx.TensorProto.UINT8:
        shift = _unpacked(e, e.input(3), bits, [n, -1])
        shift = e.op("Reshape", [_sliced(e, shift, blocks), e.constant([n, blocks, 1], np.int64)])
    else:
        shift = e.op("Reshape", [e.input(3), e.constant([n, blocks, 1], np.int64)])
    scales = e.op("Reshape", [e.input(2), e.constant([n, blocks, 1], np.int64)])
    rows = e.op("Mul", [e.op("Sub", [values, shift]), scales])
    rows = _sliced(e, e.op("Reshape", [rows, e.constant([n, -1], np.int64)]), k)
    _product(e, "MatMul", e.input(0), e.op("Transpose", [rows], perm=[1, 0]), e.input(5))


def _unpacked(e: Expansion, packed: str, bits: int, shape: list[int]) -> str:
    """Return the values of a packed uint8 tensor as floats in this shape, the low half of each byte first."""
    whole = e.op("Cast", [packed], to=_FLOAT)
    if bits == 4:
        sixteen, axis = e.constant(16.0), e.rank(packed) or len(shape)
        high = e.op("Floor", [e.op("Div", [whole, sixteen])])
        low = e.op("Sub", [whole, e.op("Mul", [high, sixteen])])
        halves = [e.unsqueeze(half, [axis]) for half in (low, high)]
        whole = e.op("Concat", halves, axis=axis)
    return e.op("Reshape", [whole, e.constant(shape, np.int64)])


def _sliced(e: Expansion, x: str, stop: int) -> str:
    """Return the columns of a matrix before `stop`."""
    bounds = [e.constant([number], np.int64) for number in (0, stop, 1)]
    return e.op("Slice", [x, *bounds])
