"""This module finds shapes that onnx's shape inference loses, since the graph computes the target of a Reshape.

Exporters with a symbolic batch write `Reshape(x, Concat(Shape(x)[0], 2, 58, ...))`; Expand, Tile and ConstantOfShape
may have such targets too. The shape computations are followed with dimensions as values (numbers, symbols, None), so
that only what is really unknown stays unknown. Every node behind a shape that is found this way is inferred again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.constant_folding import fold
from onnx_xcam.surgery.ir.diagnostics import Diagnosed
from onnx_xcam.surgery.ir.dims import Dim, Shape, broadcast
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.op_traits import traits

Dims: TypeAlias = np.ndarray
"""An array of Dim (dtype object): the value of a small integer tensor."""

VALUE_LIMIT = 64
"""Only integer tensors of up to this many elements are followed: shapes, and not index tables."""

INVENTED = "unk__"
"""The names of dimensions that onnx's shape inference does not know begin so."""


def refine(graph: Graph) -> None:
    """Fold constants, and find what can be found of unknown dimensions, in place (in the analysis copy only)."""
    incomplete = any(_incomplete(graph.shape(out.name)) for node in graph.nodes for out in node.outputs if out.name)
    if incomplete or any(traits(node).axes == "branched" for node in graph.nodes):  # an If often compares one dimension
        _Refinement(graph).run()
    else:
        for node in graph.nodes:
            with Diagnosed(node):
                fold(graph, node)


def _incomplete(shape: Shape | None) -> bool:
    """Tell whether a shape is unknown, or has a dimension that is neither a number nor a symbol of the model."""
    return shape is None or any(dim is None or (isinstance(dim, str) and dim.startswith(INVENTED)) for dim in shape)


class _Refinement:
    """A _Refinement follows shape computations through a graph, node by node, and adds the shapes to it.

    Attributes:
        graph: the graph, which is changed.
        values: the values of small integer tensors, as dimensions.
        changed: the tensors with a shape or a constant value that onnx's inference did not have.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Dims] = {}
        self.changed: set[str] = set()

    def run(self) -> None:
        """Refine every node of the graph."""
        for node in self.graph.nodes:
            with Diagnosed(node):
                self._step(node)

    def _step(self, node: gs.Node) -> None:
        """Fold a node, or follow its value and its shape."""
        if fold(self.graph, node):
            self.changed.update(out.name for out in node.outputs)
            return
        value = self._value(node)
        if value is not None and value.size <= VALUE_LIMIT:
            self._keep(node.outputs[0].name, value)
        shape = self._target_shape(node)
        if shape is not None:
            self._set(node.outputs[0], shape)
        elif any(tensor.name in self.changed for tensor in node.inputs):
            self._infer(node)

    def _keep(self, name: str, value: Dims) -> None:
        """Keep the value of a tensor, as a constant of the graph if it has numbers alone."""
        self.values[name] = value
        numbers = value.reshape(-1).tolist()
        if name not in self.graph.constants and all(type(number) is int for number in numbers):
            self.graph.constants[name] = np.array(numbers, np.int64).reshape(value.shape)
            self.changed.add(name)

    # --- shapes -----------------------------------------------------------------------------------------------------

    def _set(self, tensor: gs.Tensor, shape: Shape) -> None:
        """Merge a shape into what is known; a dimension that was known stays as it was."""
        before = self.graph.shape(tensor.name)
        if before is not None and len(before) == len(shape):
            shape = tuple(
                new if _incomplete((old,)) and not (old is not None and new is None) else old
                for old, new in zip(before, shape, strict=True)
            )
        if shape != before:
            tensor.shape = list(shape)
            self.changed.add(tensor.name)

    def _target_shape(self, node: gs.Node) -> Shape | None:
        """Return the output shape of a node that takes it as an input, or for which onnx infers none."""
        typed_by = traits(node).typed_by
        if typed_by is not None:
            lends = [tensor.name for tensor in node.inputs][: typed_by + 1]
            kind = self.graph.dtype(lends[typed_by]) if len(lends) > typed_by else None
            node.outputs[0].dtype = node.outputs[0].dtype or kind
            return self.graph.shape(lends[0])
        return self._stated_shape(node)

    def _stated_shape(self, node: gs.Node) -> Shape | None:
        """Return the output shape that an input of the node states; None if there is none."""
        at = {"ConstantOfShape": 0, "Reshape": 1, "Expand": 1, "Tile": 1}.get(node.op)
        target = None if at is None or len(node.inputs) <= at else self._dims(node.inputs[at].name)
        if target is None or target.ndim != 1:
            return None
        x = self.graph.shape(node.inputs[0].name)
        if node.op == "ConstantOfShape" or x is None:
            return tuple(target) if node.op == "ConstantOfShape" else None
        if node.op == "Expand":
            return broadcast(x, tuple(target))
        if node.op == "Tile":
            return tuple(map(_mul, x, target)) if len(target) == len(x) else None
        return reshaped(x, list(target), bool(node.attrs.get("allowzero", 0)))

    def _infer(self, node: gs.Node) -> None:
        """Infer one node again, with what is now known of its inputs."""
        graph = self.graph
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for tensor in node.inputs:
            if not tensor.name:
                continue
            dtype, shape = graph.dtype(tensor.name), graph.shape(tensor.name)
            if dtype is None:
                return
            kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
            types[tensor.name] = onnx.helper.make_tensor_type_proto(kind, None if shape is None else list(shape))
            if tensor.name in graph.constants:
                data[tensor.name] = onnx.numpy_helper.from_array(graph.constants[tensor.name])
        try:
            schema = onnx.defs.get_schema(node.op, graph.opset, node.domain or "")
            inferred = onnx.shape_inference.infer_node_outputs(
                schema, exported(node), types, data, opset_imports=[onnx.helper.make_opsetid("", graph.opset)]
            )
        except (
            onnx.shape_inference.InferenceError,
            onnx.checker.ValidationError,
            onnx.defs.SchemaError,
            RuntimeError,
            ValueError,
        ):
            return  # what was known before stays as it was
        for tensor in node.outputs:
            type_proto = inferred.get(tensor.name)
            if type_proto is not None and type_proto.tensor_type.HasField("shape"):
                self._set(tensor, tuple(_dim(d) for d in type_proto.tensor_type.shape.dim))

    # --- values -----------------------------------------------------------------------------------------------------

    def _dims(self, name: str) -> Dims | None:
        """Return the value of a small integer tensor as dimensions, None if it is not known."""
        if name in self.graph.constants:
            array = self.graph.constants[name]
            return array.astype(object) if array.size <= VALUE_LIMIT and array.dtype.kind in "iu" else None
        return self.values.get(name)

    def _value(self, node: gs.Node) -> Dims | None:
        """Return the value of a node's integer output as dimensions, None if it cannot be followed."""
        if node.op == "Shape":
            shape = self.graph.shape(node.inputs[0].name)
            return None if shape is None else _array(shape)[node.attrs.get("start", 0) : node.attrs.get("end")]
        function = _FOLLOWED.get(node.op)
        if function is None:
            return None
        inputs = [self._dims(tensor.name) if tensor.name else None for tensor in node.inputs]
        if not inputs or inputs[0] is None:
            return None
        if any(dims is None and tensor.name for dims, tensor in zip(inputs, node.inputs, strict=True)):
            return None  # an operand of unknown values may broadcast the others to another length
        try:
            return function(node, inputs)
        except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError):
            return None  # shape computations do not have this form


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    """Return an ONNX dimension as a number or symbol, None if it is neither."""
    return dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None)


def _array(dims: Any) -> Dims:
    """Return dimensions as an array of dtype object."""
    array = np.empty(len(dims), object)
    array[:] = dims
    return array


def reshaped(x: Shape, target: list[Dim], allow_zero: bool = False) -> Shape:
    """Return the shape of `Reshape(x, target)`; 0 copies a dimension, -1 takes what remains."""
    dims: list[Dim] = [
        x[axis] if dim == 0 and not allow_zero and axis < len(x) else dim for axis, dim in enumerate(target)
    ]
    if -1 in dims:
        rest = dims.index(-1)
        dims[rest] = _quotient(x, [dim for axis, dim in enumerate(dims) if axis != rest])
    return tuple(dims)


def _quotient(over: Shape, under: list[Dim]) -> Dim:
    """Return the product of `over` divided by that of `under`; None if more than a number or one symbol remains."""
    if None in over or None in under:
        return None
    symbols = Counter(dim for dim in over if isinstance(dim, str))
    symbols.subtract(dim for dim in under if isinstance(dim, str))
    number = int(np.prod([d for d in over if isinstance(d, int)], dtype=np.int64))
    divisor = int(np.prod([d for d in under if isinstance(d, int)], dtype=np.int64))
    left = [symbol for symbol, count in symbols.items() if count]
    if not left and divisor and number % divisor == 0:
        return number // divisor
    if len(left) == 1 and symbols[left[0]] == 1 and number == divisor:
        return left[0]
    return None


# --- the operators that shape computations are made of ---------------------------------------------------------------


def _elementwise(function: Callable[[Any, Any], Any]) -> Callable[[gs.Node, list[Any]], Dims]:
    """Return the function that applies a function of two dimensions element by element."""
    return lambda node, inputs: np.asarray(np.frompyfunc(function, 2, 1)(inputs[0], inputs[1]), object)


def _add(a: Dim, b: Dim) -> Dim:
    """Return a + b, None if it is not known."""
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return a if b == 0 else b if a == 0 else None


def _sub(a: Dim, b: Dim) -> Dim:
    """Return a - b, None if it is not known."""
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    return a if b == 0 else None


def _mul(a: Dim, b: Dim) -> Dim:
    """Return a b, None if it is not known."""
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return a if b == 1 else b if a == 1 else None


def _div(a: Dim, b: Dim) -> Dim:
    """Return a / b, rounded towards zero, None if it is not known."""
    if isinstance(a, int) and isinstance(b, int):
        return int(a / b) if b else None
    return a if b == 1 else 1 if a == b and a is not None else None


def _equal(a: Dim, b: Dim) -> bool | None:
    """Return whether two dimensions are equal, None if it is not known."""
    if isinstance(a, str) and isinstance(b, int) and b < 0:
        return False
    return None if a is None or b is None or type(a) is not type(b) else a == b


def _where(condition: Any, a: Dim, b: Dim) -> Dim:
    """Return a or b by the condition, None if it is not known."""
    return None if condition is None else a if condition else b


def _axes(node: gs.Node, inputs: list[Any]) -> list[int]:
    """Return the axes of an Unsqueeze, from its second input or its attribute."""
    axes = inputs[1].tolist() if len(inputs) > 1 and inputs[1] is not None else node.attrs["axes"]
    return [int(axis) for axis in np.atleast_1d(axes)]


def _slice(node: gs.Node, inputs: list[Any]) -> Dims:
    """Return the value of a Slice of a vector of dimensions."""
    if len(inputs) == 1:
        start, stop, step = node.attrs["starts"][0], node.attrs["ends"][0], 1
    else:
        start, stop = inputs[1].item(), inputs[2].item()
        step = inputs[4].item() if len(inputs) > 4 and inputs[4] is not None else 1
    return np.asarray(
        inputs[0][slice(int(start), None if step < 0 and stop < -len(inputs[0]) else int(stop), int(step))], object
    )


def _squeeze(node: gs.Node, inputs: list[Any]) -> Dims:
    """Return the value of a Squeeze of dimensions."""
    return np.asarray(inputs[0].reshape(()) if inputs[0].size == 1 else inputs[0], object)


_FOLLOWED: dict[str, Callable[[gs.Node, list[Any]], Dims]] = {
    "Identity": lambda node, inputs: inputs[0],
    "Cast": lambda node, inputs: inputs[0],
    "Gather": lambda node, inputs: np.asarray(inputs[0][inputs[1].astype(np.int64)], object),
    "Slice": _slice,
    "Concat": lambda node, inputs: np.concatenate(inputs, node.attrs["axis"]),
    "Unsqueeze": lambda node, inputs: np.expand_dims(inputs[0], tuple(_axes(node, inputs))),
    "Squeeze": _squeeze,
    "Reshape": lambda node, inputs: inputs[0].reshape([int(n) for n in inputs[1]]),
    "Add": _elementwise(_add),
    "Sub": _elementwise(_sub),
    "Mul": _elementwise(_mul),
    "Div": _elementwise(_div),
    "Equal": _elementwise(_equal),
    "Where": lambda node, inputs: np.asarray(np.frompyfunc(_where, 3, 1)(*inputs), object),
}
"""This table maps the operators of shape computations to functions on dimensions."""
