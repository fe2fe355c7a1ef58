"""This module makes models of one product of 8-bit integers with the largest factors, to try a processor with.

Where the product comes out too small, its sum has saturated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper, parser

from onnx_xcam.surgery.analysis.integer_products import Product
from onnx_xcam.surgery.ir.op_traits import named

_DEPTH, _COLUMNS, _SIDE = 64, 16, 4
"""A product sums up _DEPTH terms and has _COLUMNS columns; a matrix has _SIDE rows, a picture _SIDE x _SIDE pixels."""
_FIRST, _SECOND = 255, 127
"""The largest factors: of activations, less their zero point, and of weights with a range that is symmetric about 0."""

_INTEGERS = {
    "MatMulInteger": "i = MatMulInteger(q, w, za, zw)  y = Cast<to=1>(i)",
    "ConvInteger": "i = ConvInteger(q, w, za, zw)  y = Cast<to=1>(i)",
}
"""The bodies of models of operators with the sum of products itself as their result."""
_FLOATS = {
    "QLinearMatMul": "r = QLinearMatMul(q, sa, za, w, sw, zw, sy, za)  y = DequantizeLinear(r, sy, za)",
    "QLinearConv": "r = QLinearConv(q, sa, za, w, sw, zw, sy, za)  y = DequantizeLinear(r, sy, za)",
    "QGemm": "r = com.microsoft.QGemm(q, sa, za, w, sw, zw, , sy, za)  y = DequantizeLinear(r, sy, za)",
    "MatMulIntegerToFloat": "y = com.microsoft.MatMulIntegerToFloat(q, w, sa, sw, za, zw)",
    "DynamicQuantizeMatMul": "y = com.microsoft.DynamicQuantizeMatMul(x, w, sw, zw)",
    # All rows are the same, so their weighted mean, which attention computes, is the value of each.
    "QAttention": "y = com.microsoft.QAttention<num_heads=1>(q, w, bias, sa, sw, , za, zw)",
}
"""The bodies of models of operators with dequantised sums as their result: 1 times 1, summed up."""
_LAST = "r = com.microsoft.QLinearConv<channels_last=1>(q, sa, za, w, sw, zw, sy, za)  y = DequantizeLinear(r, sy, za)"
_BETWEEN = (
    "d = DequantizeLinear(q, sa, za)  {weights}  p = {op}(d, v)  "
    "r = QuantizeLinear(p, sy, za)  y = DequantizeLinear(r, sy, za)"
)


@dataclass(frozen=True)
class Trial:
    """A Trial is a model of one product, with the output `y`.

    Attributes:
        model: the model's bytes.
        feeds: the values of its inputs, by name.
        expected: what each number of `y` is in exact arithmetic.
    """

    model: bytes
    feeds: dict[str, NDArray[Any]]
    expected: float


def trial(product: Product) -> Trial:
    """Return the trial of a kind of product."""
    kind, weights = np.int8 if product.signed else np.uint8, _weights(product)
    body = _body(product)
    known: dict[str, NDArray[Any]] = {
        "sa": np.array(1 / _FIRST, np.float32),
        "za": np.array(np.iinfo(kind).min, kind),
        "sw": np.array(1 / _SECOND, np.float32),
        "zw": np.array(0, np.int8) if weights.dtype != np.uint8 else np.array(128, np.uint8),
        "sy": np.array(_DEPTH / 200, np.float32),
        "bias": np.zeros(weights.shape[-1], np.float32),
    }
    feeds = {"x": np.ones(_shape(product), np.float32), "w": weights}
    if product.stored:
        known["w"] = feeds.pop("w")
    elif named(product.op, product.domain).runs_on_integers:
        feeds["f"] = np.ones(feeds.pop("w").shape, np.float32)
    inputs = ", ".join(f"{_type(array)}{list(array.shape)} {name}" for name, array in feeds.items())
    imports = f'"" : {product.opset}, "com.microsoft" : 1'
    quantised = "" if product.op == "DynamicQuantizeMatMul" else "q = QuantizeLinear(x, sa, za)"
    text = f"<ir_version : 8, opset_import : [{imports}]> trial ({inputs}) => (float[] y) {{ {quantised}  {body} }}"
    model = parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    read = {name for node in model.graph.node for name in node.input}
    model.graph.initializer.extend(numpy_helper.from_array(known[name], name) for name in known if name in read)
    exact = _DEPTH * _FIRST * _SECOND if product.op in _INTEGERS else _DEPTH
    return Trial(model.SerializeToString(), feeds, float(exact))


def _body(product: Product) -> str:
    """Return the nodes that compute `y`, in ONNX's text syntax."""
    if named(product.op, product.domain).runs_on_integers:
        weights = "v = Identity(w)" if product.weights == "float" else "v = DequantizeLinear(w, sw, zw)"
        if not product.stored:  # both factors are activations, which a quantiser turns into integers
            weights = "w = QuantizeLinear(f, sw, zw)  " + weights
        return _BETWEEN.format(weights=weights, op=product.op)
    if product.op == "QLinearConv" and product.domain:
        return _LAST
    return {**_INTEGERS, **_FLOATS}[product.op]


def _weights(product: Product) -> NDArray[Any]:
    """Return the second factor, with the largest number of its type everywhere."""
    columns = 3 * _COLUMNS if product.op == "QAttention" else _COLUMNS
    shape = (_COLUMNS, _DEPTH, 1, 1) if "Conv" in product.op else (_DEPTH, columns)
    largest = {"int8": np.array(127, np.int8), "uint8": np.array(255, np.uint8), "float": np.array(1, np.float32)}
    return np.full(shape, largest[product.weights])


def _shape(product: Product) -> tuple[int, ...]:
    """Return the shape of the activations, the first factor."""
    if product.op == "QAttention":
        return (1, _SIDE, _DEPTH)
    if "Conv" not in product.op:
        return (_SIDE, _DEPTH)
    return (1, _SIDE, _SIDE, _DEPTH) if product.domain else (1, _DEPTH, _SIDE, _SIDE)


def _type(array: NDArray[Any]) -> str:
    """Return the name of an array's element type in ONNX's text syntax."""
    return {"float32": "float"}.get(array.dtype.name, array.dtype.name)
