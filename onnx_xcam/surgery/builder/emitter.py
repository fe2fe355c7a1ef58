"""This module records the nodes that surgery adds, step by step, and shares steps that are equal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.builder.facts import Facts
from onnx_xcam.surgery.builder.steps import Step
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Dim, Shape

PREFIX = "xcam"


class Emitter:
    """An Emitter records added nodes as steps and hands out their results as values.

    Equal steps (same operator, inputs and attributes) are recorded once, and so are equal constants. Nothing is
    executed: only small constants, such as numbers and index tables, are computed beforehand.

    Args:
        opset: the version of the default operator set for which nodes are emitted.
        taken: a function that tells whether the graph uses a name already.

    Attributes:
        steps: the recorded steps, in order.
        facts: the facts that are known about the values.
    """

    def __init__(self, opset: int, taken: Callable[[str], bool]) -> None:
        self.opset = opset
        self.steps: list[Step] = []
        self.facts = Facts(self.steps)
        self._taken = taken
        self._symbols: dict[str, tuple[Value, int]] = {}
        self._serial = 0
        self._known: dict[Any, tuple[Value, ...]] = {}
        self._constants: dict[str, np.ndarray] = {}
        self._forward: dict[str, Value] = {}
        self._outputs: dict[str, Value] = {}

    def successor(self) -> Emitter:
        """Return an empty emitter for the same graph."""
        return Emitter(self.opset, self._taken)

    # --- values -----------------------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray) -> Value:
        """Return a constant with the array's dtype and shape."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            name = self._name("const")
            self._constants[name] = array
            self._known[key] = (Value(self, name, array.dtype, array.shape, array),)
        return self._known[key][0]

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is a constant of this emitter, and not a tensor of the model with a known value."""
        return name in self._constants

    def forward(
        self,
        name: str,
        dtype: np.dtype[Any] | None,
        shape: Shape,
        constant: np.ndarray | None = None,
        *,
        is_weight: bool = False,
    ) -> Value:
        """Return a tensor of the original graph as a value; the tail reads it by its name and never changes it."""
        if name not in self._forward:
            self._forward[name] = Value(self, name, np.dtype(dtype or np.float32), shape, constant)
            if is_weight:
                self.facts.set_fixed(name)
        return self._forward[name]

    def node(
        self,
        op: str,
        inputs: Sequence[Value | None],
        outputs: Sequence[tuple[np.dtype[Any] | type, Shape]],
        *,
        domain: str | None = None,
        **attributes: Any,
    ) -> tuple[Value, ...]:
        """Add a node, or find the equal one that was added before, and return its outputs.

        Args:
            op: the operator.
            inputs: what the node reads, None for an optional input that is left out.
            outputs: dtype and shape of each output.
            domain: None for the standard's operators; another operator set that the model imports, or `INTENTS`.
            attributes: the node's attributes; None and empty lists are left out.
        """
        attributes = {key: value for key, value in attributes.items() if not _is_nothing(value)}
        names = tuple(v.name if v is not None else "" for v in inputs)
        key = (op, domain, names, repr(sorted(attributes.items())))
        if key not in self._known:
            made = tuple(Value(self, self._name(op), np.dtype(dtype), shape) for dtype, shape in outputs)
            self.steps.append(Step(op, domain, attributes, tuple(inputs), made))
            self._known[key] = made
        return self._known[key]

    def one(self, op: str, inputs: Sequence[Value | None], dtype: Any, shape: Shape, **attributes: Any) -> Value:
        """Add a node with a single output, as `node` does, and return that output."""
        return self.node(op, inputs, [(dtype, shape)], **attributes)[0]

    def copy(self, step: Step, inputs: Sequence[Value | None]) -> tuple[Value | None, ...]:
        """Record a step of another emitter with these inputs of this one, and return its outputs."""
        if step.is_shared:
            kinds = [(value.dtype, value.shape) for value in step.outputs if value is not None]
            return self.node(step.op, inputs, kinds, domain=step.domain, **step.attributes)
        made = tuple(v and Value(self, self._name(step.op), v.dtype, v.shape) for v in step.outputs)
        self.steps.append(Step(step.op, step.domain, step.attributes, tuple(inputs), made, is_shared=False))
        return made

    def may_be_infinite(self, value: Value) -> bool:
        """Tell whether a value may be infinite although the values that it is computed from are finite."""
        return self.facts.may_be_infinite(value)

    def set_never_zero(self, value: Value) -> None:
        """Note that a value is never zero, so that a quotient by it stays finite."""
        self.facts.set_never_zero(value)

    def knows(self, name: str) -> bool:
        """Tell whether `forward` has handed out this tensor, or `repeat` has computed it."""
        return name in self._forward

    def repeat(
        self, node: gs.Node, inputs: Sequence[Value | None], outputs: Mapping[str, tuple[np.dtype[Any] | None, Shape]]
    ) -> None:
        """Add a copy of a node; `forward` then gives the outputs of the copy by the names that they have in the graph.

        Args:
            node: a node that only the analysis has, or one whose own outputs the tail must not read.
            inputs: the values that the copy reads.
            outputs: dtype and shape of each output, by name.
        """
        made: list[Value | None] = []
        for out in node.outputs:
            if not out.name:
                made.append(None)
                continue
            dtype, shape = outputs[out.name]
            self._forward[out.name] = Value(self, self._name(node.op), np.dtype(dtype or np.float32), shape)
            made.append(self._forward[out.name])
        self.steps.append(Step(node.op, None, node.attrs, tuple(inputs), tuple(made), is_shared=False))

    def named(self, value: Value, name: str) -> Value:
        """Return the value under a name of the contract, and note that it is to be exported under it."""
        self._outputs[name] = value
        return Value(self, name, value.dtype, value.shape)

    def _name(self, hint: str) -> str:
        """Return a name that neither the graph nor another step uses."""
        while True:
            self._serial += 1
            name = f"{PREFIX}/{hint}_{self._serial}"
            if not self._taken(name):
                return name

    # --- dimensions -------------------------------------------------------------------------------------------------

    def input(self, name: str, dtype: Any, shape: Shape) -> Value:
        """Return a graph input, of the model or added, and note that its symbolic dimensions can be read from it."""
        value = self.forward(name, np.dtype(dtype), shape)
        for axis, dim in enumerate(shape):
            if isinstance(dim, str):
                self._symbols.setdefault(dim, (value, axis))
        return value

    def define_symbol(self, symbol: str, value: Value, axis: int) -> None:
        """Note that a symbolic dimension can be read from this axis of this value."""
        self._symbols[symbol] = (value, axis)

    def symbol_source(self, dim: Dim) -> tuple[Value, int] | None:
        """Return the value and its axis from which a symbolic dimension can be read cheaply, None if there is none."""
        return self._symbols.get(dim) if isinstance(dim, str) else None

    def shape_of(self, value: Value, start: int, stop: int) -> Value:
        """Return dimensions `start` to `stop` of a value at run time, int64 `[stop - start]`."""
        if self.opset >= 15:
            return self.one("Shape", [value], np.int64, (stop - start,), start=start, end=stop)
        shape = self.one("Shape", [value], np.int64, (value.rank,))
        return shape if (start, stop) == (0, value.rank) else shape.slice([start], [stop], [0])

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Join values along an axis; the other dimensions must be equal."""
        if len(values) == 1:
            return values[0]
        first = values[0]
        axis %= first.rank
        sizes = [v.shape[axis] for v in values]
        size = sum(sizes) if all(isinstance(s, int) for s in sizes) else None  # type: ignore[arg-type]
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        return self.one("Concat", values, first.dtype, shape, axis=axis)

    # --- the result -------------------------------------------------------------------------------------------------

    def output(self, name: str) -> Value | None:
        """Return the value that `named` has put under a name, None if there is none."""
        return self._outputs.get(name)

    def needed(self, values: Sequence[Value]) -> list[Step]:
        """Return the steps that these values are computed by, in order."""
        names, kept = {value.name for value in values}, []
        for step in reversed(self.steps):
            if any(out is not None and out.name in names for out in step.outputs):
                kept.append(step)
                names.update(value.name for value in step.inputs if value is not None)
        return kept[::-1]


def _is_nothing(value: Any) -> bool:
    """Tell whether an attribute is to be left out: None, or an empty list, for which a file has no type."""
    return value is None or (isinstance(value, list | tuple) and not value)
