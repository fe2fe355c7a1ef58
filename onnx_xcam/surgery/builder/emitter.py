"""The nodes that surgery adds: collected here, shared where equal, dropped where unused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.errors import UnexpectedError
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Dim, Shape

PREFIX = "xcam"
_POLES = frozenset({"Div", "Log", "Pow", "Reciprocal"})
"""Operators that make infinite values of finite ones."""


class Emitter:
    """Collects added nodes as onnx_graphsurgeon nodes and hands out their results as values.

    Equal nodes (same operator, inputs and attributes) are made once, and so are equal constants. Nothing is executed
    here: constants stay small numbers and index tables.

    Args:
        opset: version of the default operator set that the nodes are spelled in.
        taken: names that the graph uses already.
    """

    def __init__(self, opset: int, taken: Callable[[str], bool]) -> None:
        self.opset = opset
        self.nodes: list[gs.Node] = []
        self._taken = taken
        self._symbols: dict[str, tuple[Value, int]] = {}
        self._serial = 0
        self._known: dict[Any, tuple[Value, ...]] = {}
        self._forward: dict[str, Value] = {}
        self._made: set[str] = set()

    # --- values -----------------------------------------------------------------------------------------------------

    def constant(self, array: np.ndarray) -> Value:
        """A constant with the array's dtype and shape."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = ("constant", array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            tensor = gs.Constant(self._name("const"), array)
            self._known[key] = (Value(self, tensor, array.dtype, array.shape, array),)
        return self._known[key][0]

    def forward(
        self,
        name: str,
        dtype: np.dtype[Any] | None,
        shape: Shape,
        constant: np.ndarray | None = None,
        *,
        is_weight: bool = False,
    ) -> Value:
        """A tensor of the original graph, by its name. The tail refers to it and never changes it."""
        if name not in self._forward:
            tensor = gs.Variable(name, dtype)
            value = self._forward[name] = Value(self, tensor, np.dtype(dtype or np.float32), shape, constant)
            value.is_fixed = value.is_fixed or is_weight
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
        """Add a node, or find the equal one that was added before; its outputs with the given dtypes and shapes.

        It is one of the standard's operators; `domain` is for another that the model has itself.
        """
        attributes = {key: value for key, value in attributes.items() if not _is_nothing(value)}
        key = (op, tuple(v.name if v is not None else "" for v in inputs), repr(sorted(attributes.items())))
        if key not in self._known:
            tensors = [gs.Variable(self._name(op)) for _ in outputs]
            self._made.update(tensor.name for tensor in tensors)
            tensor_inputs = [v.tensor if v is not None else gs.Variable.empty() for v in inputs]
            name = f"{PREFIX}/{op}_{self._serial}"
            self.nodes.append(gs.Node(op, name, attributes, tensor_inputs, tensors, domain))
            self._known[key] = tuple(
                Value(self, tensor, np.dtype(dtype), shape)
                for tensor, (dtype, shape) in zip(tensors, outputs, strict=True)
            )
            self._trace(op, [v for v in inputs if v is not None], self._known[key])
        return self._known[key]

    @staticmethod
    def _trace(op: str, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Note of new values what their inputs say of them."""
        fixed = all(v.is_fixed for v in inputs)
        pole = op in _POLES and not (inputs[-1].is_fixed or inputs[-1].is_safe_divisor)
        for value in outputs:
            value.is_fixed, value.has_poles = fixed, pole or any(v.has_poles for v in inputs)

    def knows(self, name: str) -> bool:
        """Whether `forward` has handed out this tensor."""
        return name in self._forward

    def repeat(
        self, node: gs.Node, inputs: Sequence[Value | None], outputs: Mapping[str, tuple[np.dtype[Any] | None, Shape]]
    ) -> None:
        """Add a copy of a node of a function body. `forward` gives its outputs by the names they have in the body."""
        tensors = [gs.Variable(self._name(node.op)) if out.name else gs.Variable.empty() for out in node.outputs]
        tensor_inputs = [v.tensor if v is not None else gs.Variable.empty() for v in inputs]
        self.nodes.append(gs.Node(node.op, f"{PREFIX}/{node.op}_{self._serial}", node.attrs, tensor_inputs, tensors))
        for out, tensor in zip(node.outputs, tensors, strict=True):
            if out.name:
                dtype, shape = outputs[out.name]
                self._forward[out.name] = Value(self, tensor, np.dtype(dtype or np.float32), shape)

    def one(self, op: str, inputs: Sequence[Value | None], dtype: Any, shape: Shape, **attributes: Any) -> Value:
        """`node` for an operator with a single output."""
        return self.node(op, inputs, [(dtype, shape)], **attributes)[0]

    def named(self, value: Value, name: str) -> Value:
        """The value under a name of the contract: its own from now on, or by an Identity what the model itself made."""
        if value.name in self._made:
            self._made.remove(value.name)
            value.tensor.name = name
            return value
        tensor = gs.Variable(name)
        self.nodes.append(gs.Node("Identity", f"{PREFIX}/{name}", {}, [value.tensor], [tensor]))
        return Value(self, tensor, value.dtype, value.shape)

    def _name(self, hint: str) -> str:
        while True:
            self._serial += 1
            name = f"{PREFIX}/{hint}_{self._serial}"
            if not self._taken(name):
                return name

    # --- dimensions -------------------------------------------------------------------------------------------------

    def input(self, name: str, dtype: Any, shape: Shape) -> Value:
        """An added graph input; its symbolic dimensions become readable from it."""
        value = self.forward(name, np.dtype(dtype), shape)
        for axis, dim in enumerate(shape):
            if isinstance(dim, str):
                self._symbols.setdefault(dim, (value, axis))
        return value

    def define_symbol(self, symbol: str, value: Value, axis: int) -> None:
        """Say where a symbolic dimension can be read."""
        self._symbols[symbol] = (value, axis)

    def symbol_source(self, dim: Dim) -> tuple[Value, int] | None:
        """Where a symbolic dimension can be read cheaply, None if nowhere."""
        return self._symbols.get(dim) if isinstance(dim, str) else None

    def shape_of(self, value: Value, start: int, stop: int) -> Value:
        """Dimensions `start` to `stop` of a value at run time, int64 [stop - start]."""
        if self.opset >= 15:
            return self.one("Shape", [value], np.int64, (stop - start,), start=start, end=stop)
        shape = self.one("Shape", [value], np.int64, (value.rank,))
        return shape if (start, stop) == (0, value.rank) else shape.slice([start], [stop], [0])

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values joined along an axis; the other dimensions must be equal."""
        if len(values) == 1:
            return values[0]
        first = values[0]
        axis %= first.rank
        sizes = [v.shape[axis] for v in values]
        size = sum(sizes) if all(isinstance(s, int) for s in sizes) else None  # type: ignore[arg-type]
        shape = (*first.shape[:axis], size, *first.shape[axis + 1 :])
        return self.one("Concat", values, first.dtype, shape, axis=axis)

    # --- the result -------------------------------------------------------------------------------------------------

    def export(self, outputs: Sequence[str], ir_version: int) -> onnx.GraphProto:
        """The nodes that `outputs` need, in order, with their constants as initializers.

        Raises:
            UnexpectedError: an output was never made (a defect of this program, said rather than hidden).
        """
        needed, kept = set(outputs), []
        for node in reversed(self.nodes):
            if any(out.name in needed for out in node.outputs):
                kept.append(node)
                needed.update(tensor.name for tensor in node.inputs)
        missing = set(outputs) - {out.name for node in kept for out in node.outputs}
        if missing:
            raise UnexpectedError(f"Nothing computes the outputs {sorted(missing)}; please report this model.")
        graph = gs.Graph(nodes=kept[::-1], opset=self.opset)
        model = gs.export_onnx(graph, do_type_check=False, ir_version=ir_version)
        result: onnx.GraphProto = model.graph
        return result


def _is_nothing(value: Any) -> bool:
    """Whether an attribute says nothing: none at all, or a list without elements, which no file can type."""
    return value is None or (isinstance(value, list | tuple) and not value)
