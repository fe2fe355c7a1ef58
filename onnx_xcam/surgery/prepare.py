"""From a skeleton to a Graph: shapes inferred, small constants folded. For analysis only: nothing is written back."""

from __future__ import annotations

import ast

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.graph import Graph, exported
from onnx_xcam.surgery.refine import refine

FOLD_LIMIT = 1 << 16
"""Folding stops where a result would have more elements than this."""

_NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout"}
    | {"If", "Loop", "Scan", "Optional", "SequenceConstruct", "SequenceEmpty"}
)
_SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def prepare(skeleton: onnx.ModelProto, name: str = "the model") -> Graph:
    """The graph of a skeleton, ready for analysis.

    Raises:
        ModelError: the graph contradicts itself (a cycle, wrong types, a tensor that nothing makes).
    """
    model = _with_shapes(skeleton, name)
    scopes = {i: path for i, node in enumerate(model.graph.node) if (path := module_path(node))}
    graph = gs.import_onnx(model)
    constants = _initializers(model)
    result = Graph(graph, constants, scopes)
    _check_order(result, name)
    _fold(result)
    refine(result)
    _fold(result)
    return result


def module_path(node: onnx.NodeProto) -> str:
    """The PyTorch module path that the exporter recorded for a node, such as `layer4.2.relu`, or "".

    The dynamo exporter keeps a list of scopes in the node's metadata; the TorchScript exporter writes
    `/layer4/layer4.2/relu/Relu`, where a child of a container repeats its parent's path, into the node's name.
    """
    for entry in node.metadata_props:
        if entry.key == _SCOPES_KEY:
            try:
                scopes = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                return ""
            return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) >= 2 else ""
    if not node.name.startswith("/"):
        return ""
    path: list[str] = []
    for scope in node.name.split("/")[1:-1]:
        if path and scope.startswith(path[-1] + "."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path)


def _with_shapes(skeleton: onnx.ModelProto, name: str) -> onnx.ModelProto:
    try:
        return onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        text = " ".join(str(error).split())
        raise ModelError(f"The shapes of {name} contradict each other: {text[:300]}.") from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The graph of {name} cannot be analysed: {str(error)[:300]}.") from error


def _initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in model.graph.initializer
        if tensor.data_location != onnx.TensorProto.EXTERNAL and tensor.name
    }


def _check_order(graph: Graph, name: str) -> None:
    made = set(graph.input_names) | {n for n, t in graph.tensors.items() if isinstance(t, gs.Constant)}
    for node in graph.nodes:
        for tensor in node.inputs:
            if tensor.name and tensor.name not in made:
                raise ModelError(
                    f"In {name}, node '{node.name}' ({node.op}) reads '{tensor.name}', which nothing "
                    "before it makes; the file is damaged or not sorted."
                )
        made.update(tensor.name for tensor in node.outputs)


def _fold(graph: Graph) -> None:
    """Evaluate the nodes whose inputs are all small known constants, and Shape of static shapes."""
    for node in graph.nodes:
        folded = _shape_of(graph, node) or _evaluated(graph, node)
        if folded is not None:
            graph.constants.update(folded)


def _shape_of(graph: Graph, node: gs.Node) -> dict[str, np.ndarray] | None:
    if node.op != "Shape" or node.domain not in ("", "ai.onnx", None):
        return None
    shape = graph.shape(node.inputs[0].name)
    if shape is None:
        return None
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
    for out in node.outputs:
        shape = graph.shape(out.name)
        if shape is None or not all(isinstance(dim, int) for dim in shape):
            return False
        if np.prod(shape, dtype=np.float64) > FOLD_LIMIT:  # type: ignore[arg-type]
            return False
    return True


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
