"""Evaluating what is constant: nodes whose inputs are all small known constants, Shape and Size of static shapes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.graph import Graph, exported
from onnx_xcam.surgery.shapes import known_size

_LIST_LIMIT = 256
FOLD_LIMIT = 1 << 16
"""Folding stops where a result would have more elements than this."""

_NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
    | {"If", "Loop", "Scan", "Optional", "SequenceConstruct", "SequenceEmpty"}
)
_MAKES_LARGE = frozenset(
    {"ConstantOfShape", "Expand", "Tile", "Range", "Resize", "Upsample", "Pad", "OneHot", "EyeLike"}
)


def fold(graph: Graph, node: gs.Node) -> bool:
    """Add the node's outputs to the graph's constants if they are constant; whether they are."""
    folded = _shape_of(graph, node) or _evaluated(graph, node)
    if folded is not None:
        graph.constants.update(folded)
    return folded is not None


def _shape_of(graph: Graph, node: gs.Node) -> dict[str, np.ndarray] | None:
    if node.op not in ("Shape", "Size") or node.domain not in ("", "ai.onnx", None):
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
    if node.op == "Constant":
        value = _constant_attribute(node)
        return None if value is None or value.size > FOLD_LIMIT else {node.outputs[0].name: value}
    names = [tensor.name for tensor in node.inputs]
    if node.domain not in ("", "ai.onnx", None) or node.op in _NEVER_FOLDED or not names:
        return None
    if not all(not name or name in graph.constants for name in names):
        return None
    if any(isinstance(value, gs.Graph) for value in node.attrs.values()) or not _is_small(graph, node):
        return None
    return _run(graph, node, [name for name in names if name])


def _is_small(graph: Graph, node: gs.Node) -> bool:
    """Whether the outputs are small, by their shapes or, where these are unknown, by what the operator can make."""
    shapes = [graph.shape(out.name) for out in node.outputs if out.name]
    sizes = [known_size(shape) if shape is not None else None for shape in shapes]
    if None not in sizes:
        return max(sizes, default=0) <= FOLD_LIMIT  # type: ignore[type-var,operator]
    values = [graph.constants[tensor.name] for tensor in node.inputs if tensor.name]
    if node.op == "ConstantOfShape":
        return float(np.prod(values[0].astype(np.float64))) <= FOLD_LIMIT
    return node.op not in _MAKES_LARGE and sum(value.size for value in values) <= _LIST_LIMIT


def _constant_attribute(node: gs.Node) -> np.ndarray | None:
    value = node.attrs.get("value")
    if isinstance(value, gs.Constant):
        return None if isinstance(value._values, gs.ir.tensor.LazyValues) and _is_stripped(value) else value.values
    for key, dtype in (
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in node.attrs:
            return np.array(node.attrs[key], dtype)
    return None


def _is_stripped(constant: gs.Constant) -> bool:
    return bool(constant._values.tensor.data_location == onnx.TensorProto.EXTERNAL)


def _run(graph: Graph, node: gs.Node, names: list[str]) -> dict[str, np.ndarray] | None:
    proto = exported(node)
    from onnx.reference import ReferenceEvaluator  # noqa: PLC0415  slow to import, seldom needed

    try:
        inputs = [
            onnx.helper.make_tensor_value_info(n, onnx.helper.np_dtype_to_tensor_dtype(graph.constants[n].dtype), None)
            for n in dict.fromkeys(names)
        ]
        outputs = [onnx.helper.make_tensor_value_info(o.name, 0, None) for o in node.outputs if o.name]
        model = onnx.helper.make_model(
            onnx.helper.make_graph([proto], "fold", inputs, outputs),
            opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        )
        results = ReferenceEvaluator(model).run(None, {n: graph.constants[n] for n in names})
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, ArithmeticError):
        return None  # not folded: whoever needs the value as a constant says so
    named = [o.name for o in node.outputs if o.name]
    return {name: np.asarray(result) for name, result in zip(named, results, strict=True)}
