"""Arithmetic, elementary functions and activations."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import AXIS, NEWEST, OLD, Row, ints, row, scalar

EVERY = (OLD, 17, NEWEST)
X = "float[N,3,W] x"
AB = "float[N,3,W] a, float[3,1] b"
POSITIVE = (0.3, 3.0)


def unary(op: str, attributes: str = "", **options: object) -> Row:
    """`y = op(x)`."""
    return row(op, X, f"y = {op}{attributes}(x)", W=4, **options)


def binary(op: str, inputs: str = AB, **options: object) -> Row:
    """`y = op(a, b)` with broadcasting."""
    return row(op, inputs, f"y = {op}(a, b)", W=4, **options)


ROWS = [
    *(binary(op, inputs, opsets=opsets) for op in ("Add", "Sub", "Mul")
      for inputs, opsets in (
          (AB, (OLD, AXIS, NEWEST)), ("float[N,3,W] a, float[N,3,W] b", (17,)), ("float[W] a, float[N,1,1] b", (17,)),
          ("float[N,1,W] a, float[1,3,1] b", (OLD, 17)), ("float a, float[N,W] b", (17,)))),
    # Which input is broadcast, only the run tells.
    *(row(op, "float[A,3,B] a, float[C,D,W] b", f"y = {op}(a, b)", A=1, B=4, C=2, D=1, W=4, opsets=(OLD, 17)) for op in ("Mul", "Add")),
    row("Mul", "float[A,3,B] a, float[C,D,W] b, float[C,3,W] c", "d = Mul(a, b) y = Add(d, c)", A=1, B=1, C=2, D=3, W=4),
    row("Where", "float[A,B] a, float[C,D] b, bool[E,F] c", "y = Where(c, a, b)", A=1, B=3, C=2, D=1, E=2, F=1, given={"c": np.array([[True], [False]])}),
    binary("Div", domains={"b": POSITIVE}, opsets=EVERY),
    binary("Div", "float[3,1] a, float[N,3,W] b", domains={"b": (-3, -0.3)}),
    binary("Pow", domains={"a": POSITIVE}, opsets=(OLD, 12, AXIS, 15, NEWEST)),
    binary("Pow", "float[3,1] a, float[N,3,W] b", domains={"a": POSITIVE}),
    row("Pow", X, "e = Constant<value = int64 {3}>() y = Pow(x, e)", W=4, opsets=(12, 17)),
    row("Pow", X, ints("e", 2) + "y = Pow(x, e)", W=4, opsets=(12, 17)),
    row("Pow", "float[N,2] x, int64[2] e", "y = Pow(x, e)", given={"e": np.array([2, 3])}, opsets=(12, 17)),
    *(row("Pow", X, scalar("e", e) + "y = Pow(x, e)", W=4, domains={"x": POSITIVE}, opsets=EVERY)
      for e in (1.0, 2.0, 3.0, 0.5, -1.5)),
    row("Pow", "float[N,2] x", "e = Constant<value = float[2] {2, -1}>() y = Pow(x, e)", domains={"x": POSITIVE}),
    *(row(op, "float[N,3,W] a, float[3,1] b, float[W] c", f"y = {op}(a, b, c)", W=4, opsets=(OLD, AXIS, NEWEST))
      for op in ("Sum", "Mean", "Max", "Min")),
    *(row(op, "float[N,3] a, float[N,1] b", f"y = {op}(a, b)", opsets=(12, 17)) for op in ("Max", "Min")),
    *(unary(op) for op in ("Sum", "Mean", "Max", "Min")),
    *(row("Where", inputs, "y = Where(c, a, b)", W=3, opsets=(OLD, 16, NEWEST), given={"c": np.array([[1, 0, 1], [0, 0, 1]], bool)})
      for inputs in ("float[N,W] a, float[W] b, bool[N,W] c", "float[1,1] a, float[5,N,W] b, bool[N,W] c")),
    row("Identity", X, "y = Identity(x)", W=4, opsets=EVERY),
    row("Dropout", X, "y = Dropout(x)", W=4, opsets=(OLD, 17)),
    row("Dropout", X, scalar("r", 0.4) + "t = Constant<value = bool {0}>() y = Dropout(x, r, t)", W=4, opsets=(12, 13, 22)),
    row("Cast", X, "y = Cast<to = 1>(x)", W=4, opsets=EVERY),
    row("CastLike", "float[N,3,W] x, float[1] like", "y = CastLike(x, like)", W=4, opsets=(15, 19), wrt=("x",)),
    *(unary(op, opsets=EVERY) for op in ("Neg", "Abs", "Exp", "Erf", "Sin", "Cos", "Sigmoid", "Tanh", "Relu")),
    *(unary(op, opsets=EVERY, domains={"x": POSITIVE}) for op in ("Log", "Sqrt")),
    *(unary(op, opsets=(OLD, 22)) for op in ("Sinh", "Cosh", "Atan", "Asinh")),
    *(unary(op, opsets=(OLD, 22), domains={"x": (-0.9, 0.9)}) for op in ("Tan", "Asin", "Acos", "Atanh")),
    unary("Acosh", opsets=(OLD, 22), domains={"x": (1.2, 4.0)}),
    row("Mod", AB, "y = Mod<fmod = 1>(a, b)", W=4, domains={"b": (0.7, 2.0)}, opsets=(OLD, 13)),
    row("Mod", "float[3,1] a, float[N,3,W] b", "y = Mod<fmod = 1>(a, b)", W=4, domains={"b": (-2.0, -0.7)}, opsets=(OLD, 13)),
    unary("Reciprocal", domains={"x": (-3, -0.3)}, opsets=EVERY),
    *(unary(op, opsets=(OLD, 17)) for op in ("Softsign", "Softplus", "HardSigmoid", "Selu", "Elu", "LeakyRelu", "ThresholdedRelu")),
    unary("HardSigmoid", "<alpha = 0.5, beta = 0.6>", opsets=(OLD, 22)),
    unary("LeakyRelu", "<alpha = 0.3>", opsets=(OLD, 16)),
    unary("ThresholdedRelu", "<alpha = 0.4>", opsets=(OLD, 22)),
    unary("Shrink", opsets=(OLD, 17)),
    unary("Shrink", "<bias = 0.3, lambd = 1.2>", opsets=(OLD, 17)),
    unary("Elu", "<alpha = 1.7>", opsets=(OLD, 22)),
    unary("Selu", "<alpha = 1.3, gamma = 0.8>", opsets=(OLD, 22)),
    unary("Celu", opsets=(12,)),
    unary("Celu", "<alpha = 0.6>", opsets=(12, 17)),
    unary("HardSwish", domains={"x": (-5, 5)}, opsets=(14, 22)),
    unary("Mish", opsets=(18, 22)),
    unary("Gelu", opsets=(20, NEWEST)),
    unary("Gelu", '<approximate = "tanh">', opsets=(20, NEWEST)),
    unary("Swish", opsets=(24,)),
    unary("Swish", "<alpha = 1.7>", opsets=(24, NEWEST)),
    *(row("PRelu", f"float[N,3,W] x, float{s} a", "y = PRelu(x, a)", W=4, opsets=(OLD, 16)) for s in ("[3,1]", "[1]", "[N,3,W]")),
    row("PRelu", "float[N,3,W] x, float[3,1] a", "y = PRelu(x, a)", W=4, wrt=("x",)),
    row("Clip", X, "y = Clip(x)", W=4, opsets=(OLD, 17)),
    row("Clip", X, scalar("low", -1.1) + scalar("high", 1.3) + "y = Clip(x, low, high)", W=4, opsets=EVERY),
    row("Clip", X, scalar("high", 1.3) + "y = Clip(x, , high)", W=4, opsets=EVERY),
    row("Clip", "float[N,3,W] x, float low", "y = Clip(x, low)", W=4, opsets=EVERY, wrt=("x",), domains={"low": (-1, 0)}),
    *(row("CumSum", X, f"axis = Constant<value = int64 {{{axis}}}>() y = CumSum<exclusive = {e}, reverse = {r}>(x, axis)", W=4, opsets=(OLD, 14))
      for axis in (0, -1) for e in (0, 1) for r in (0, 1)),
    *(row(op, X, f"y = {op}<axis = {axis}>(x)", W=4, opsets=(OLD, AXIS, NEWEST)) for op in ("Softmax", "LogSoftmax") for axis in (0, 1, -1)),
    *(row(op, X, f"y = {op}(x)", W=4, opsets=(OLD, AXIS)) for op in ("Softmax", "LogSoftmax")),
]  # fmt: skip
