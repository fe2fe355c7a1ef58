"""This module shows a forward node to its gradient rule: inputs and outputs as values, and what the rule must give."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.errors import UnsupportedOpError
from onnx_xcam.surgery.builder.broadcasting import expanded
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.forward_values import forward_value, rounded_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph


def whole(_: str, value: Value) -> Value:
    """Return a forward tensor as it is, given its name and itself."""
    return value


class NodeView:
    """A NodeView gives a rule the node's inputs and outputs as values, its attributes, and which gradients are wanted.

    It shows float16 tensors as float32, so that rules compute in float32. A sweep that differentiates a part of the
    positions gives a `view` that returns this part of a forward tensor, given its name and the whole.
    """

    def __init__(
        self,
        graph: Graph,
        node: gs.Node,
        emitter: Emitter,
        wanted: frozenset[str],
        unclipped: Collection[str] = (),
        *,
        view: Callable[[str, Value], Value] = whole,
    ) -> None:
        self.graph = graph
        self.node = node
        self.emitter = emitter
        self._wanted = wanted
        self._unclipped = unclipped
        self._view = view

    @property
    def is_unclipped(self) -> bool:
        """Tell whether the gradient passes this quantiser, or Clip of integers, as if nothing were clipped."""
        return self.node.outputs[0].name in self._unclipped

    @property
    def op(self) -> str:
        """Return the operator's name."""
        return str(self.node.op)

    @property
    def opset(self) -> int:
        """Return the version of the default operator set."""
        return self.graph.opset

    @property
    def x(self) -> Value:
        """Return the first input."""
        return self.input(0)

    @property
    def y(self) -> Value:
        """Return the first output."""
        return self.output(0)

    @property
    def rounded_y(self) -> Value:
        """Return the first output or, where it is quantised next, its rounded value, which clips at the same bounds."""
        name = self.node.outputs[0].name
        return self._view(name, rounded_value(self.graph, self.emitter, name, self.describe()))

    @property
    def inputs(self) -> list[Value]:
        """Return all inputs of an operator that has no optional ones."""
        return [self.input(i) for i in range(len(self.node.inputs))]

    def input(self, index: int) -> Value:
        """Return input `index` as a value.

        Raises:
            ShapeError: the rank of the input is unknown.
        """
        name = self.node.inputs[index].name
        return self._view(name, forward_value(self.graph, self.emitter, name, self.describe()))

    def weight(self, index: int, axes: tuple[int, int], groups: int = 1) -> Value:
        """Return an input that the gradient is multiplied by as a matrix; `axes` are those of its rows and its columns.

        The rows are those of all groups together.

        A square constant in float32 becomes a constant of its own, by two Neg, which runtimes fold when they load the
        model. OpenVINO (2026.4) takes a product by a square weight and one by the same weight transposed for the same
        product, and gives wrong numbers for one of them.
        """
        value, tensor = self.input(index), self.node.inputs[index]
        rows, columns = (value.shape[axis] if value.rank > 1 else None for axis in axes)
        maker = self.graph.producer.get(tensor.name)
        source = maker.inputs[0].name if maker is not None and maker.op == "Transpose" else tensor.name
        own = self.graph.dtype(tensor.name) != np.float32 or not self.graph.is_constant(source)
        if own or not isinstance(columns, int) or columns == 1 or rows != columns * groups:
            return value
        negative = -value
        return -negative

    def output(self, index: int) -> Value:
        """Return output `index` as a value."""
        name = self.node.outputs[index].name
        return self._view(name, forward_value(self.graph, self.emitter, name, self.describe()))

    def has_input(self, index: int) -> bool:
        """Tell whether the optional input is given."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index].name)

    def needs(self, index: int) -> bool:
        """Tell whether the gradient of this input is wanted."""
        return self.has_input(index) and self.node.inputs[index].name in self._wanted

    def attr(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default where the node does not give it."""
        return self.node.attrs.get(name, default)

    def const(self, index: int) -> np.ndarray | None:
        """Return the constant at an input, None if the input is not given or not a known constant."""
        return self.graph.constants.get(self.node.inputs[index].name) if self.has_input(index) else None

    def ints(self, index: int, attribute: str, default: Sequence[int] | None = None) -> list[int] | None:
        """Return integers that are an attribute at old opsets and an input at newer ones.

        Raises:
            UnsupportedOpError: the input is computed at run time.
        """
        if self.has_input(index):
            array = self.const(index)
            if array is None:
                raise self.unsupported(f"its {attribute} are computed at run time")
            return [int(n) for n in array.reshape(-1)]
        value = self.attr(attribute, default)
        return None if value is None else [int(n) for n in value]

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """Return a constant of this dtype; without one, numbers take the dtype of the gradients."""
        return self.emitter.constant(np.asarray(array, dtype))

    def full(self, gy: Value, axes: Sequence[int] | None = None, output: int = 0) -> Value:
        """Return the gradient expanded to the output's true size, on all axes or only on these axes of the output."""
        return expanded(gy, self.output(output), axes)

    def unsupported(self, why: str) -> UnsupportedOpError:
        """Return an error that names this node and says why it cannot be differentiated."""
        return UnsupportedOpError(f"{self.describe()} cannot be differentiated: {why}; choose a later layer.")

    def describe(self) -> str:
        """Return the node's name and operator as error messages give them."""
        return f"Node '{self.node.name or self.node.outputs[0].name}' ({self.op})"
