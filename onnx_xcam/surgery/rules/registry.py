"""The table of gradient rules, and how a rule is declared.

A rule says how; what is known of the operator itself (which inputs have a gradient, which only lend their shape, that
there is none) is its row in ir/op_traits.py.

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
from onnx_xcam.surgery.ir.op_traits import UNKNOWN, named
from onnx_xcam.surgery.rules.node import NodeView

Gradients: TypeAlias = Value | Sequence[Value | None] | None
Rule: TypeAlias = Callable[..., Gradients]


@dataclass(frozen=True)
class Vjp:
    """A rule and what it is declared to handle.

    Attributes:
        function: `function(node, gy)`; or, with `every_output`, `function(node, [gy or None, ...])`.
        constant_axes: takes gradients that keep size 1 along axes where they are constant.
        broadcast: works element by element, and broadcasts its inputs against each other.
        every_output: gets the gradients of all outputs, None for those without one.
    """

    function: Rule
    constant_axes: bool = False
    broadcast: bool = False
    every_output: bool = False


RULES: dict[str, Vjp] = {}


def vjp(
    *ops: str, constant_axes: bool = False, broadcast: bool = False, every_output: bool = False
) -> Callable[[Rule], Rule]:
    """Register a rule for operators; see `Vjp` for the options."""

    def register(rule: Rule) -> Rule:
        for op in ops:
            if named(op) is UNKNOWN:
                raise ValueError(f"a rule for {op}, which has no row in ir/op_traits.py")
            if op in RULES or named(op).zero_derivative:
                raise ValueError(f"a second rule for {op}")
            RULES[op] = Vjp(rule, constant_axes or broadcast, broadcast, every_output)
        return rule

    return register


def elementwise(*ops: str) -> Callable[[Rule], Rule]:
    """Register a rule for operators that work element by element and broadcast their inputs."""
    return vjp(*ops, broadcast=True)


__all__ = [
    "RULES",
    "Gradients",
    "NodeView",
    "Rule",
    "Value",
    "Vjp",
    "elementwise",
    "vjp",
]
