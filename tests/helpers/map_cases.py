"""What a map is computed from: small models by head and activation, and the formula as slow loops."""

from __future__ import annotations

import numpy as np
import onnx

from helpers.models import GAP_WEIGHTS, C, cnn


def literal_map(activations, gradients):
    """The signed split of one image and class: A and G `[C,h,w]`; the map before the ReLU, `[h,w]`, float64."""
    channels, height, width = activations.shape
    result = np.zeros((height, width))
    for k in range(channels):
        sums = {"GP": 0.0, "P": 0.0, "GQ": 0.0, "Q": 0.0}
        for i in range(height):
            for j in range(width):
                a, g = float(activations[k, i, j]), float(gradients[k, i, j])
                p, q = max(a, 0.0), max(-a, 0.0)
                sums["GP"] += g * p
                sums["P"] += p
                sums["GQ"] += g * q
                sums["Q"] += q
        w_plus = sums["GP"] / sums["P"] if sums["P"] else 0.0
        w_minus = sums["GQ"] / sums["Q"] if sums["Q"] else 0.0
        for i in range(height):
            for j in range(width):
                a = float(activations[k, i, j])
                result[i, j] += w_plus * max(a, 0.0) - w_minus * max(-a, 0.0)
    return result


def literal_local_map(activations, gradients):
    """Local XGrad-CAM of one image and class: A and G `[C,h,w]`; the map before the ReLU, `[h,w]`, float64."""
    result = np.zeros(activations.shape[1:])
    places = list(np.ndindex(result.shape))
    view = {place: sum(abs(float(one[place])) for one in gradients) for place in places}
    for k in range(len(activations)):
        for lower, upper in ((0.0, np.inf), (-np.inf, 0.0)):
            part = {place: min(max(float(activations[k][place]), lower), upper) for place in places}
            products = {place: float(gradients[k][place]) * part[place] for place in places}
            share = sum(products.values())
            if share > 0:
                where = {place: view[place] * max(products[place], 0.0) for place in places}
            else:
                where = {place: view[place] ** 0.5 * abs(part[place]) for place in places}
            total = sum(where.values())
            for place in places:
                result[place] += share * where[place] / total if share else 0.0
    return result


MEAN_W = "m = ReduceMean<axes=[3], keepdims=0>(a) logits = Flatten(m) "
HEADS = {
    "constant": ("gap", {}),
    "varying": ("dense", {}),
    "constant over W": (
        "m = ReduceMean<axes=[3], keepdims=0>(a)  flat = Flatten(m)  logits = Gemm(flat, v)",
        {"v": (24, C)},
    ),
    "constant over H": (
        "m = ReduceSum<keepdims=0>(a, axis)  flat = Flatten(m)  logits = Gemm(flat, v)",
        {"v": (24, C), "axis": np.array([2])},
    ),
    "constant over C": (
        "m = ReduceMean<axes=[1], keepdims=0>(a)  flat = Flatten(m)  logits = Gemm(flat, v)",
        {"v": (36, C)},
    ),
    "quadratic": (
        "s = Mul(a, a)  pooled = GlobalAveragePool(s)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)",
        GAP_WEIGHTS,
    ),
    "maximum": (
        "pooled = GlobalMaxPool(a)  flat = Flatten(pooled)  logits = Gemm<transB=1>(flat, fc, fb)",
        GAP_WEIGHTS,
    ),
}
ACTS = {
    "relu": "a = Relu(c2)",
    "signed": "a = Identity(c2)",
    "silu": "s0 = Sigmoid(c2)  a = Mul(c2, s0)",
    "clip": "zero = Constant<value_float=0.0>()  six = Constant<value_float=6.0>()  a = Clip(c2, zero, six)",
    "negative": "r2 = Relu(c2)  a = Neg(r2)",
}


def status_model(head="gap", n="N"):
    """Class 0 good, class 1 with negative weights only, class 2 with none, class 3 whose score overflows."""
    model = cnn("gap", n=n)
    rows = np.array([[1, 1, 1, 1], [-1, -1, -1, -1], [0, 0, 0, 0], [3e38] * 4, [1, 0, 0, 0]], np.float32)
    for tensor in model.graph.initializer:
        if tensor.name == "fc":
            tensor.CopyFrom(onnx.numpy_helper.from_array(rows, "fc"))
        elif tensor.name == "fb":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(5, np.float32), "fb"))
        elif tensor.name == "b2":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(4, 1, np.float32), "b2"))
    return model
