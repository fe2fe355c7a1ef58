"""This module holds the gradient rules of activation functions.

A rule reads only tensors that ONNX Runtime still has after it fused operators: y of Relu and Clip (never x, which the
fusion of Conv and Relu removes), and x of smooth activations such as Gelu.
"""

from __future__ import annotations

import math

from onnx_xcam.surgery.analysis.value_ranges import End, clips_nothing
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, elementwise, vjp

SELU_ALPHA = 1.67326319217681884765625
SELU_GAMMA = 1.05070102214813232421875


@elementwise("Relu")
def relu(node: NodeView, gy: Value) -> Gradients:
    """y = max(x, 0);  gx = gy where y > 0."""
    return gy.masked(node.rounded_y > 0)


@elementwise("LeakyRelu")
def leaky_relu(node: NodeView, gy: Value) -> Gradients:
    """y = x where x >= 0, else alpha x;  gx = gy where x >= 0, else alpha gy.

    For a positive alpha, y has the sign of x, and x is not read.
    """
    alpha = node.attr("alpha", 0.01)
    below = (node.y if alpha > 0 else node.x) < 0
    return gy * below.choose(alpha, 1, gy)


@elementwise("PRelu")
def prelu(node: NodeView, gy: Value) -> Gradients:
    """y = x where x >= 0, else slope x;  gx = gy where x >= 0, else slope gy;  gslope = gy x where x < 0."""
    x, slope = node.inputs
    below = x < 0
    return gy * below.choose(slope, 1, gy), (gy * x).masked(below) if node.needs(1) else None


@elementwise("ThresholdedRelu")
def thresholded_relu(node: NodeView, gy: Value) -> Gradients:
    """y = x where x > alpha, else 0;  gx = gy where x > alpha."""
    alpha: float = node.attr("alpha", 1.0)
    return gy.masked(node.x > alpha)


@elementwise("Shrink")
def shrink(node: NodeView, gy: Value) -> Gradients:
    """y = x + bias where x < -lambda, x - bias where x > lambda, else 0;  gx = gy where |x| > lambda."""
    limit: float = node.attr("lambd", 0.5)
    return gy.masked(node.x.abs() > limit)


@elementwise("Elu")
def elu(node: NodeView, gy: Value) -> Gradients:
    """y = x where x > 0, else alpha (exp(x) - 1);  gx = gy where x > 0, else gy (y + alpha)."""
    return gy * (node.x > 0).choose(1, node.y + node.attr("alpha", 1.0), gy)


@elementwise("Selu")
def selu(node: NodeView, gy: Value) -> Gradients:
    """y = gamma x where x > 0, else gamma alpha (exp(x) - 1).

    gx = gamma gy where x > 0, else gy (y + gamma alpha).
    """
    alpha, gamma = node.attr("alpha", SELU_ALPHA), node.attr("gamma", SELU_GAMMA)
    return gy * (node.x > 0).choose(gamma, node.y + gamma * alpha, gy)


@elementwise("Celu")
def celu(node: NodeView, gy: Value) -> Gradients:
    """y = x where x > 0, else alpha (exp(x / alpha) - 1);  gx = gy where x > 0, else gy (y / alpha + 1)."""
    return gy * (node.x > 0).choose(1, node.y / node.attr("alpha", 1.0) + 1, gy)


@vjp("Clip", constant_axes=True)
def clip(node: NodeView, gy: Value) -> Gradients:
    """y = min(max(x, low), high);  gx = gy where low < y < high.

    A Clip of quantised integers is part of a quantiser of fewer bits. A bound that no input can pass gets no mask, and
    the Clip of the score itself passes the whole gradient.
    """
    if node.is_unclipped:
        return gy
    inside = None
    ends: tuple[tuple[int, End], ...] = ((1, "min"), (2, "max"))
    for index, name in ends:
        bound: Value | float | None = node.attr(name)
        if node.has_input(index):
            bound = node.input(index)
        if bound is None or _clips_nothing(node, name):
            continue
        mask = node.rounded_y > bound if name == "min" else node.rounded_y < bound
        inside = mask if inside is None else inside.logical_and(mask)
    return gy if inside is None else gy.masked(inside)


def _clips_nothing(node: NodeView, end: End) -> bool:
    """Tell whether a Clip behind a QuantizeLinear clips nothing at one end, because no input can lie beyond it."""
    quantiser = node.graph.producer.get(node.node.inputs[0].name)
    integer = node.const(1 if end == "min" else 2)
    if quantiser is None or quantiser.op != "QuantizeLinear" or integer is None:
        return False
    return clips_nothing(node.graph, quantiser, end, integer)


@elementwise("Sigmoid")
def sigmoid(node: NodeView, gy: Value) -> Gradients:
    """y = 1 / (1 + exp(-x));  gx = gy y (1 - y)."""
    y = node.y
    return gy * (y * (1 - y))


@elementwise("HardSigmoid")
def hard_sigmoid(node: NodeView, gy: Value) -> Gradients:
    """y = min(max(alpha x + beta, 0), 1);  gx = alpha gy where 0 < y < 1."""
    inside = (node.y > 0).logical_and(node.y < 1)
    alpha: float = node.attr("alpha", 0.2)
    return gy.masked(inside) * alpha


@elementwise("HardSwish")
def hard_swish(node: NodeView, gy: Value) -> Gradients:
    """y = x min(max(x/6 + 1/2, 0), 1);  gx = 0 where x <= -3, gy where x >= 3, gy (x/3 + 1/2) between."""
    x = node.x
    return gy * ((x < 3).choose(x / 3 + 0.5, 1, gy)).masked(x > -3)


@elementwise("Swish")
def swish(node: NodeView, gy: Value) -> Gradients:
    """y = x s with s = sigmoid(alpha x);  gx = gy (s + alpha y (1 - s)).

    The rule gives x a leading axis of size 1 before the Sigmoid. Without it, ONNX Runtime would share the Sigmoid with
    a forward pass that writes Swish as Mul and Sigmoid, and no longer fuse the two.
    """
    alpha: float = node.attr("alpha", 1.0)
    y, s = node.y * alpha, (node.x.unsqueeze([0]) * alpha).sigmoid()
    return gy * (s * (1 - y) + y)


@elementwise("Mish")
def mish(node: NodeView, gy: Value) -> Gradients:
    """y = x t with t = tanh(log(1 + exp(x)));  gx = gy (t + x (1 - t²) sigmoid(x))."""
    x = node.x
    s = x.sigmoid()
    t = (x.maximum(0) + (1 + (-x.abs()).exp()).log()).tanh()
    return gy * (t + x * (1 - t * t) * s)


@elementwise("Softplus")
def softplus(node: NodeView, gy: Value) -> Gradients:
    """y = log(1 + exp(x));  gx = gy sigmoid(x)."""
    return gy * node.x.sigmoid()


@elementwise("Softsign")
def softsign(node: NodeView, gy: Value) -> Gradients:
    """y = x / (1 + |x|);  gx = gy / (1 + |x|)²."""
    scale = 1 + node.x.abs()
    return gy / (scale * scale)


@elementwise("Tanh")
def tanh(node: NodeView, gy: Value) -> Gradients:
    """y = tanh(x);  gx = gy (1 - y²)."""
    return gy * (1 - node.y * node.y)


@elementwise("Gelu")
def gelu(node: NodeView, gy: Value) -> Gradients:
    """y = x F(x), F the normal distribution function or its tanh approximation;  gx = gy (F(x) + x F'(x)).

    F is computed as (1 - erf(-x / sqrt 2)) / 2. In the usual form, (1 + erf(x / sqrt 2)) / 2, ONNX Runtime would share
    it with a forward pass that writes Gelu as elementary operators, and no longer fuse those.
    """
    x = node.x
    if node.attr("approximate", "none") == "tanh":
        scale, cubic = math.sqrt(2 / math.pi), 0.044715
        t = ((x + x * x * x * cubic) * scale).tanh()
        slope = (1 - t * t) * (1 + x * x * (3 * cubic)) * (0.5 * scale)
        return gy * ((1 + t) * 0.5 + x * slope)
    density = (x * x * -0.5).exp() * (1 / math.sqrt(2 * math.pi))
    return gy * ((1 - (x * -math.sqrt(0.5)).erf()) * 0.5 + x * density)


@vjp("Softmax", "LogSoftmax", constant_axes=True)
def softmax(node: NodeView, gy: Value) -> Gradients:
    """Softmax: gx = y (gy - sum(gy y));  LogSoftmax: gx = gy - exp(y) sum(gy);  sums along the axis.

    From opset 13 on, both normalise along one axis; before, over that axis and all later ones, flattened together.
    """
    y = node.y
    if node.opset >= 13:
        axes = [node.attr("axis", -1) % y.rank]
    else:
        axes = list(range(node.attr("axis", 1) % (y.rank or 1), y.rank))
    shifted = [axis + 1 for axis in axes]
    if node.op == "Softmax":
        return y * (gy - (gy * y).sum(shifted))
    gy = node.full(gy, axes)
    return gy - y.exp() * gy.sum(shifted)
