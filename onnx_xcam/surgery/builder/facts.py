"""Facts about added values: whether they are fixed when the model is loaded, and whether they may be infinite."""

from __future__ import annotations

from collections.abc import Sequence

from onnx_xcam.surgery.builder.steps import Step
from onnx_xcam.surgery.builder.values import INTENTS, Value
from onnx_xcam.surgery.ir.op_traits import named


class Facts:
    """Facts tell what recorded steps say of the values that they make; steps are read when something is asked."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._steps = steps
        self._seen = 0
        self._fixed: set[str] = set()
        self._infinite: set[str] = set()
        self._never_zero: set[str] = set()
        self._scaled_by: dict[str, str] = {}

    def set_fixed(self, name: str) -> None:
        """Note that a tensor of the model is a weight."""
        self._fixed.add(name)

    def set_never_zero(self, value: Value) -> None:
        """Note that a value can be divided by."""
        self._never_zero.add(value.name)

    def is_never_zero(self, value: Value) -> bool:
        """Whether it was noted that a value can be divided by."""
        return value.name in self._never_zero

    def may_be_infinite(self, value: Value) -> bool:
        """Whether a value may be infinite where what it is made of is not, by a division, a logarithm or a power."""
        self._follow()
        return value.name in self._infinite

    def is_fixed(self, value: Value) -> bool:
        """Whether a value is made of weights and constants alone."""
        return value.const is not None or value.name in self._fixed

    def _follow(self) -> None:
        """Read the steps that came since the last time."""
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
        """Whether a value is divided by the scale that it was multiplied by, and so is what it was."""
        return op == "Unscaled" and self._scaled_by.get(inputs[0].name) == inputs[1].name

    def _is_safe(self, divisor: Value) -> bool:
        return self.is_fixed(divisor) or divisor.name in self._never_zero


def _has_pole(step: Step) -> bool:
    """Whether a step may make infinite values of finite ones: an intention as the operator that it may become."""
    if step.domain == INTENTS:
        return step.op == "Unscaled" and named("Div").has_pole
    return named(step.op, step.domain).has_pole
