"""This module holds the table of gradient rules and the decorators that declare one.

A rule computes gradients. Facts about its operator (which inputs have a gradient, which only lend their shape, whether
the derivative is zero) are the operator's row in ir/op_traits.py.

A rule gets the forward node and the gradient `gy` of its output, shape `[K, *y.shape]` (K classes), and returns the
gradient of each input that is wanted, shape `[K, *x.shape]`. It contains only its formula: the engine
(autodiff/backward.py) sums fan-out, undoes broadcasting, and stops at the target layer.

A gradient that is constant along an axis may keep size 1 there. A rule that is not declared to take such gradients
gets them expanded to the true size; every rule may return them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.op_facts import UNKNOWN
from onnx_xcam.surgery.ir.op_traits import named
from onnx_xcam.surgery.rules.node import NodeView

Gradients: TypeAlias = Value | Sequence[Value | None] | None
Rule: TypeAlias = Callable[..., Gradients]


@dataclass(frozen=True)
class Vjp:
    """A Vjp holds a gradient rule and says which gradients the rule is declared to handle.

    Attributes:
        function: the rule, `function(node, gy)`; or, with `every_output`, `function(node, [gy or None, ...])`.
        constant_axes: the rule takes gradients that keep size 1 along axes where they are constant.
        broadcast: the operator works element by element and broadcasts its inputs against each other.
        every_output: the rule gets the gradients of all outputs, None for an output without one.
    """

    function: Rule
    constant_axes: bool = False
    broadcast: bool = False
    every_output: bool = False


RULES: dict[str, Vjp] = {}


def vjp(
    *ops: str, constant_axes: bool = False, broadcast: bool = False, every_output: bool = False
) -> Callable[[Rule], Rule]:
    """Register the decorated function as the rule of these operators; `Vjp` explains the options."""

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
    """Register the decorated function as the rule of operators that work element by element and broadcast."""
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
