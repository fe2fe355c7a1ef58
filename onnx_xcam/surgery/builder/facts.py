"""This module derives facts about added values: whether they are fixed at load, and whether they may be infinite."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.surgery.builder.steps import Step
from onnx_xcam.surgery.builder.values import INTENTS, Value
from onnx_xcam.surgery.ir.op_traits import named


class Facts:
    """A Facts object derives facts about values from recorded steps; it reads new steps only when it is asked."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._seen = 0
        self._fixed: set[str] = set()
        self._infinite: set[str] = set()
        self._never_zero: set[str] = set()
        self._scaled_by: dict[str, str] = {}

    def set_fixed(self, name: str) -> None:
        """Note that a tensor of the model is a weight, and so is fixed when the model is loaded."""
        self._fixed.add(name)

    def set_never_zero(self, value: Value) -> None:
        """Note that a value is never zero, so that a quotient by it stays finite."""
        self._never_zero.add(value.name)

    def is_never_zero(self, value: Value) -> bool:
        """Tell whether it was noted that a value is never zero."""
        return value.name in self._never_zero

    def may_be_infinite(self, value: Value) -> bool:
        """Tell whether a quotient, a logarithm or a power may make a value infinite although all inputs are finite."""
        self._follow()
        return value.name in self._infinite

    def is_fixed(self, value: Value) -> bool:
        """Tell whether a value is computed from weights and constants alone."""
        return value.const is not None or value.name in self._fixed

    def _follow(self) -> None:
        """Read the steps that were recorded since the last call."""
        steps = self._steps
        for step in steps[self._seen :]:
            if not step.is_shared:  # a copy of a node of the model, whose values are taken for finite
                continue
            inputs = [value for value in step.inputs if value is not None]
            outputs = [value.name for value in step.outputs if value is not None]
            if all(self.is_fixed(value) for value in inputs):
                self._fixed.update(outputs)
            if step.op == "Scaled":
                self._scaled_by[outputs[0]] = inputs[1].name
            has_pole = _has_pole(step) and not self._is_safe(inputs[-1]) and not self._comes_back(step.op, inputs)
            if has_pole or any(value.name in self._infinite for value in inputs):
                self._infinite.update(outputs)
        self._seen = len(steps)

    def _comes_back(self, op: str, inputs: Sequence[Value]) -> bool:
        """Tell whether a step divides a value by the scale that it was multiplied by, and so gives the value back."""
        return op == "Unscaled" and self._scaled_by.get(inputs[0].name) == inputs[1].name

    def _is_safe(self, divisor: Value) -> bool:
        """Tell whether a quotient by this value is taken for finite."""
        return self.is_fixed(divisor) or divisor.name in self._never_zero


def _has_pole(step: Step) -> bool:
    """Tell whether a step may make infinite values of finite ones; an intention counts as what it may become."""
    if step.domain == INTENTS:
        return step.op == "Unscaled" and named("Div").has_pole
    return named(step.op, step.domain).has_pole
