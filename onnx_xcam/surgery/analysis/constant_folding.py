"""This module folds constants: nodes with small constants as inputs, and Shape and Size of static shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from math import isfinite, prod

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.ir.dims import known_size
from onnx_xcam.surgery.ir.graph import Graph, exported
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.protos import is_standard

_LIST_LIMIT = 256
"""An output of unknown size is taken to be small if the inputs together have at most this many elements."""
_BYTES_LIMIT = 1 << 28
"""Folding stops for good once all results together take more bytes than this."""
FOLD_LIMIT = 1 << 16
"""A result of more elements than this is not folded."""

FAILURES = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError),
    onnx.checker.ValidationError,
)
"""The reference evaluator raises these errors for nodes that it cannot evaluate."""


def fold(graph: Graph, node: gs.Node) -> bool:
    """Add the node's outputs to the graph's constants if they are constant, and tell whether they are."""
    folded = _shape_of(graph, node) or _evaluated(graph, node)
    if folded is not None:
        graph.constants.update(folded)
        graph.folded_bytes += sum(array.nbytes for array in folded.values())
    return folded is not None


def _shape_of(graph: Graph, node: gs.Node) -> dict[str, np.ndarray] | None:
    """Return the value of a Shape or Size node of a known shape, by the output's name; None for any other node."""
    if node.op not in ("Shape", "Size") or not is_standard(node.domain):
        return None
    shape = graph.shape(node.inputs[0].name)
    if shape is None:
        return None
    if node.op == "Size":
        size = known_size(shape)
        return None if size is None else {node.outputs[0].name: np.array(size, np.int64)}
    part = shape[slice(node.attrs.get("start", 0), node.attrs.get("end"))]
    if not all(isinstance(dim, int) for dim in part):
        return None
    return {node.outputs[0].name: np.array(part, np.int64)}


def _evaluated(graph: Graph, node: gs.Node) -> dict[str, np.ndarray] | None:
    """Return the values of a node's outputs by name, if all inputs are constants and the outputs are small."""
    if node.op == "Constant":
        value = _constant_attribute(node)
        return None if value is None or value.size > FOLD_LIMIT else {node.outputs[0].name: value}
    names = [tensor.name for tensor in node.inputs]
    if not is_standard(node.domain) or not traits(node).foldable or not names:
        return None
    if graph.folded_bytes > _BYTES_LIMIT:
        return None
    if not all(not name or name in graph.constants for name in names):
        return None
    if any(isinstance(value, gs.Graph) for value in node.attrs.values()) or not _is_small(graph, node):
        return None
    return evaluate(graph, node, {name: graph.constants[name] for name in names if name})


def _is_small(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a node's outputs are small, by their shapes or else by what the operator can make of its inputs."""
    values = [graph.constants[tensor.name] for tensor in node.inputs if tensor.name]
    if traits(node).grows:
        size = _result_size(graph, node)
        return size is not None and size <= FOLD_LIMIT
    shapes = [graph.shape(out.name) for out in node.outputs if out.name]
    sizes = [known_size(shape) if shape is not None else None for shape in shapes]
    if None not in sizes:
        return max(sizes, default=0) <= FOLD_LIMIT  # type: ignore[type-var,operator]
    return sum(value.size for value in values) <= _LIST_LIMIT


def _result_size(graph: Graph, node: gs.Node) -> int | None:
    """Return how many elements an operator with the trait `grows` makes of constants, whatever shape is noted."""
    arrays = [graph.constants.get(tensor.name) for tensor in node.inputs]
    x = arrays[0]
    if x is None or (node.op == "Range" and any(array is None for array in arrays)):
        return None
    if node.op == "ConstantOfShape":
        return prod(_integers(x))
    if node.op == "EyeLike":
        return x.size
    if node.op == "Range":
        start, stop, step = (float(np.asarray(array).reshape(-1)[0]) for array in arrays)
        return max(0, int((stop - start) / step) + 1) if step and isfinite((stop - start) / step) else None
    second = arrays[1] if len(arrays) > 1 else None
    numbers = [int(n) for n in node.attrs.get("pads", [])] if second is None else _integers(second)
    return _SIZES[node.op](x, numbers) if numbers else None


def _integers(array: np.ndarray) -> list[int]:
    """Return the elements of an array as a flat list of integers."""
    return [int(number) for number in array.reshape(-1)]


def _expanded_size(x: np.ndarray, shape: list[int]) -> int:
    """Return the number of elements that an Expand makes."""
    pairs = zip_longest(reversed(x.shape), reversed(shape), fillvalue=1)
    return prod(max(dim, number) for dim, number in pairs)


def _padded_size(x: np.ndarray, pads: list[int]) -> int:
    """Return an upper bound of the number of elements that a Pad makes."""
    if len(pads) != 2 * x.ndim:  # pads of some axes only
        return x.size * prod(1 + abs(n) for n in pads)
    return prod(dim + sum(pair) for dim, *pair in zip(x.shape, pads[: x.ndim], pads[x.ndim :], strict=True))


_SIZES: Mapping[str, Callable[[np.ndarray, list[int]], int]] = {
    "Expand": _expanded_size,
    "Tile": lambda x, repeats: x.size * prod(repeats),
    "Pad": _padded_size,
    "OneHot": lambda x, depth: x.size * abs(depth[0]),
}
"""This table maps an operator to a function that bounds the size of its result, from x and its second input."""


def _constant_attribute(node: gs.Node) -> np.ndarray | None:
    """Return the value of a Constant node; None if it is not in the skeleton or has a type that numpy lacks."""
    value = node.attrs.get("value")
    if isinstance(value, gs.Constant) and value.dtype == object:
        return None
    if isinstance(value, gs.Constant):
        if isinstance(value._values, gs.ir.tensor.LazyValues) and _is_stripped(value):
            return None
        return _stored_values(value, node)
    for key, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in node.attrs:
            return np.array(node.attrs[key], dtype)
    return None


def _stored_values(constant: gs.Constant, node: gs.Node) -> np.ndarray:
    """Return the values of a stored constant.

    Raises:
        ModelError: they are damaged.
    """
    try:
        return np.asarray(constant.values)
    except (ValueError, TypeError, KeyError) as error:
        name = node.name or node.outputs[0].name
        reason = str(error).rstrip(".")
        raise ModelError(f"The value of node '{name}' (Constant) is damaged: {reason}.") from error


def _is_stripped(constant: gs.Constant) -> bool:
    """Tell whether a constant's values are not in the skeleton."""
    return bool(constant._values.tensor.data_location == onnx.TensorProto.EXTERNAL)


def evaluate(graph: Graph, node: gs.Node, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
    """Evaluate a node with onnx's reference evaluator, and return its outputs by name; None if that fails.

    Args:
        graph: the node's graph.
        node: a node of the standard's operators.
        values: the values of its inputs by name, which the caller has found to be small.
    """
    proto = exported(node)
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  slow to import, seldom needed

    try:
        inputs = [
            onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), None)
            for name, value in values.items()
        ]
        outputs = [onnx.helper.make_tensor_value_info(o.name, 0, None) for o in node.outputs if o.name]
        model = onnx.helper.make_model(
            onnx.helper.make_graph([proto], "fold", inputs, outputs),
            opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        )
        results = ReferenceEvaluator(model).run(None, dict(values))
    except FAILURES:
        return None  # code that needs the value as a constant reports that it is none
    named = [o.name for o in node.outputs if o.name]
    return {name: np.asarray(result) for name, result in zip(named, results, strict=True)}
