"""This module holds the gradient rules of arithmetic and elementary functions, which work element by element.

The engine undoes broadcasting, so a rule is written as if all its inputs had the shape of the output.
"""

from __future__ import annotations

import math

from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, elementwise, vjp


@elementwise("Add")
def add(node: NodeView, gy: Value) -> Gradients:
    """y = a + b;  ga = gb = gy."""
    return gy, gy


@elementwise("Sub")
def sub(node: NodeView, gy: Value) -> Gradients:
    """y = a - b;  ga = gy, gb = -gy."""
    return gy, -gy


@elementwise("Mul")
def mul(node: NodeView, gy: Value) -> Gradients:
    """y = a b;  ga = gy b, gb = gy a."""
    a, b = node.inputs
    return gy * b, gy * a


@elementwise("Div")
def div(node: NodeView, gy: Value) -> Gradients:
    """y = a / b;  ga = gy / b, gb = -gy a / b²."""
    a, b = node.inputs
    return gy / b, -gy * a / (b * b)


@elementwise("Pow")
def pow_(node: NodeView, gy: Value) -> Gradients:
    """y = a^b;  ga = gy b a^(b-1), gb = gy y log a."""
    a, b = node.inputs[0], node.inputs[1].cast(node.x.dtype)
    exponent = node.const(1)
    if exponent is not None and exponent.size == 1:
        n = float(exponent.reshape(()))
        power = {1.0: None, 2.0: a, 3.0: a * a}.get(n, a ** (n - 1))
        return gy * n if power is None else gy * power * n, None
    ga = gy * b * a ** (b - 1) if node.needs(0) else None
    return ga, gy * node.y * a.log() if node.needs(1) else None


@elementwise("Sum")
def sum_(node: NodeView, gy: Value) -> Gradients:
    """y = a + b + ...;  every gradient is gy."""
    return [gy] * len(node.node.inputs)


@elementwise("Mean")
def mean(node: NodeView, gy: Value) -> Gradients:
    """y = (a + b + ...) / n;  every gradient is gy / n."""
    count = len(node.node.inputs)
    return [gy / count] * count


@elementwise("Max", "Min")
def extremum(node: NodeView, gy: Value) -> Gradients:
    """y = max(a, b, ...), or min;  gy goes to the inputs equal to y, in equal parts where several are."""
    if len(node.node.inputs) == 1:
        return gy
    masks = [x.equal(node.y).cast(gy.dtype) for x in node.inputs]
    count = masks[0]
    for mask in masks[1:]:
        count = count + mask
    share = gy / count
    return [share * mask for mask in masks]


@elementwise("Where")
def where(node: NodeView, gy: Value) -> Gradients:
    """y = a where c, else b;  ga = gy where c, gb = gy where not c."""
    condition = node.input(0)
    return None, gy.masked(condition), gy.masked(condition.logical_not())


@vjp("Identity", "Dropout", constant_axes=True)
def identity(node: NodeView, gy: Value) -> Gradients:
    """y = x, which is what Dropout does at inference too;  gx = gy."""
    if node.op == "Dropout" and node.has_input(2):
        training = node.const(2)
        if training is None or bool(training):
            raise node.unsupported("it is in training mode")
    return gy


@vjp("Cast", "CastLike", constant_axes=True)
def cast(node: NodeView, gy: Value) -> Gradients:
    """y = x in another dtype;  gx = gy in the dtype of x or, where x is a quantised integer, in that of gy."""
    return gy.cast(node.x.dtype) if node.x.dtype.kind == "f" else gy


@elementwise("Neg")
def neg(node: NodeView, gy: Value) -> Gradients:
    """y = -x;  gx = -gy."""
    return -gy


@elementwise("Abs")
def abs_(node: NodeView, gy: Value) -> Gradients:
    """y = |x|;  gx = gy sign(x)."""
    return gy * node.x.sign()


@elementwise("Exp")
def exp(node: NodeView, gy: Value) -> Gradients:
    """y = exp(x);  gx = gy y."""
    return gy * node.y


@elementwise("Log")
def log(node: NodeView, gy: Value) -> Gradients:
    """y = log(x);  gx = gy / x."""
    return gy / node.x


@elementwise("Sqrt")
def sqrt(node: NodeView, gy: Value) -> Gradients:
    """y = sqrt(x);  gx = gy / (2 y)."""
    return gy / (2 * node.y)


@elementwise("Reciprocal")
def reciprocal(node: NodeView, gy: Value) -> Gradients:
    """y = 1 / x;  gx = -gy y²."""
    return -gy * (node.y * node.y)


@elementwise("Erf")
def erf(node: NodeView, gy: Value) -> Gradients:
    """y = erf(x);  gx = gy 2/sqrt(pi) exp(-x²)."""
    x = node.x
    return gy * (-(x * x)).exp() * (2 / math.sqrt(math.pi))


@elementwise("Sin")
def sin(node: NodeView, gy: Value) -> Gradients:
    """y = sin(x);  gx = gy cos(x)."""
    return gy * node.x.cos()


@elementwise("Cos")
def cos(node: NodeView, gy: Value) -> Gradients:
    """y = cos(x);  gx = -gy sin(x)."""
    return -gy * node.x.sin()


@elementwise("Tan")
def tan(node: NodeView, gy: Value) -> Gradients:
    """y = tan(x);  gx = gy (1 + y²)."""
    return gy * (1 + node.y * node.y)


@elementwise("Asin", "Acos")
def asin(node: NodeView, gy: Value) -> Gradients:
    """y = asin(x), or acos(x) = pi/2 - asin(x);  gx = gy / sqrt(1 - x²), or its negative."""
    gx = gy / (1 - node.x * node.x).sqrt()
    return gx if node.op == "Asin" else -gx


@elementwise("Atan")
def atan(node: NodeView, gy: Value) -> Gradients:
    """y = atan(x);  gx = gy / (1 + x²)."""
    return gy / (1 + node.x * node.x)


@elementwise("Sinh")
def sinh(node: NodeView, gy: Value) -> Gradients:
    """y = sinh(x);  gx = gy cosh(x)."""
    return gy * node.x.cosh()


@elementwise("Cosh")
def cosh(node: NodeView, gy: Value) -> Gradients:
    """y = cosh(x);  gx = gy sinh(x)."""
    return gy * node.x.sinh()


@elementwise("Asinh")
def asinh(node: NodeView, gy: Value) -> Gradients:
    """y = asinh(x);  gx = gy / sqrt(x² + 1)."""
    return gy / (node.x * node.x + 1).sqrt()


@elementwise("Acosh")
def acosh(node: NodeView, gy: Value) -> Gradients:
    """y = acosh(x);  gx = gy / sqrt(x² - 1)."""
    return gy / (node.x * node.x - 1).sqrt()


@elementwise("Atanh")
def atanh(node: NodeView, gy: Value) -> Gradients:
    """y = atanh(x);  gx = gy / (1 - x²)."""
    return gy / (1 - node.x * node.x)


@elementwise("Mod")
def mod(node: NodeView, gy: Value) -> Gradients:
    """y = a - b q with a whole number q;  ga = gy, gb = -gy q."""
    a, b = node.inputs
    return gy, -gy * ((a - node.y) / b)


@vjp("CumSum")
def cumsum(node: NodeView, gy: Value) -> Gradients:
    """y_i = sum of x_j over j <= i;  gx = the cumulative sum of gy from the other end."""
    axis = node.const(1)
    if axis is None:
        raise node.unsupported("its axis is computed at run time")
    at = int(axis.reshape(())) % node.x.rank + 1
    return gy.cumsum(at, exclusive=bool(node.attr("exclusive", 0)), reverse=not node.attr("reverse", 0))
