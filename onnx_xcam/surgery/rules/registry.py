"""The table of gradient rules, and how a rule is declared.

A rule gets the forward node and the gradient `gy` of its output, shape `[K, *y.shape]` (K classes), and returns the
gradient of each input it was asked for, shape `[K, *x.shape]`. It says only its formula: the engine (backward.py) sums
fan-out, un-broadcasts, and stops at the target.

A gradient that is constant along an axis may keep size 1 there. A rule that is not declared to take such gradients
gets them expanded; every rule may return them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.rules.node import NodeView

Gradients: TypeAlias = Value | Sequence[Value | None] | None
Rule: TypeAlias = Callable[..., Gradients]

ALL = 1 << 30


@dataclass(frozen=True)
class Vjp:
    """A rule and what it is declared to handle.

    Attributes:
        function: `function(node, gy)`; or, with `every_output`, `function(node, [gy or None, ...])`.
        inputs: how many of the leading inputs it can differentiate.
        constant_axes: takes gradients that keep size 1 along axes where they are constant.
        broadcast: works element by element, and broadcasts its inputs against each other.
        every_output: gets the gradients of all outputs, None for those without one.
        passive: inputs that lend only their type or shape: the output does not depend on their values.
        detached: outputs that are taken for constants, whatever they are made of.
    """

    function: Rule
    inputs: int = ALL
    constant_axes: bool = False
    broadcast: bool = False
    every_output: bool = False
    passive: tuple[int, ...] = ()
    detached: tuple[int, ...] = ()


RULES: dict[str, Vjp] = {}

ZERO_DERIVATIVE: frozenset[str] = frozenset(
    {"Shape", "Size", "ArgMax", "ArgMin", "NonZero", "Floor", "Ceil", "Round", "Sign", "Hardmax"}
    | {"Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "And", "Or", "Xor", "IsNaN", "IsInf"}
    | {"ConstantOfShape", "EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
)
"""Operators whose derivative is zero wherever it exists, or whose output does not depend on their input's values."""


def vjp(
    *ops: str,
    inputs: int = ALL,
    constant_axes: bool = False,
    broadcast: bool = False,
    every_output: bool = False,
    passive: tuple[int, ...] = (),
    detached: tuple[int, ...] = (),
) -> Callable[[Rule], Rule]:
    """Register a rule for operators; see `Vjp` for the options."""

    def register(rule: Rule) -> Rule:
        for op in ops:
            if op in RULES or op in ZERO_DERIVATIVE:
                raise ValueError(f"a second rule for {op}")
            RULES[op] = Vjp(rule, inputs, constant_axes or broadcast, broadcast, every_output, passive, detached)
        return rule

    return register


def elementwise(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators that work element by element and broadcast their inputs."""
    return vjp(*ops, broadcast=True)


__all__ = [
    "ALL",
    "RULES",
    "ZERO_DERIVATIVE",
    "Gradients",
    "NodeView",
    "Rule",
    "Value",
    "Vjp",
    "elementwise",
    "vjp",
]
