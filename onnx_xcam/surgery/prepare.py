"""From a skeleton to a Graph: operators lowered, shapes inferred, small constants folded. For analysis only."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx_graphsurgeon.logger import G_LOGGER
from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.graph import Graph
from onnx_xcam.surgery.lowering import lowered
from onnx_xcam.surgery.refine import refine
from onnx_xcam.text import load_literal

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"


def prepare(skeleton: onnx.ModelProto, name: str = "the model") -> Graph:
    """The graph of a skeleton, ready for analysis.

    Raises:
        ModelError: the graph contradicts itself (a cycle, wrong types, a tensor that nothing makes).
    """
    standard = lowered(skeleton)
    model = _with_shapes(standard.model, name)
    scopes = {i: path for i, node in enumerate(model.graph.node) if (path := module_path(node))}
    graph = _imported(model, name)
    constants = _initializers(model, name)
    result = Graph(graph, constants, scopes, inner=standard.inner, stand_ins=standard.stand_ins, same=standard.same)
    _check_order(result, name)
    refine(result)
    return result


def _imported(model: onnx.ModelProto, name: str) -> gs.Graph:
    try:
        with G_LOGGER.suppress(G_LOGGER.CRITICAL + 1):  # it prints to stdout
            return gs.import_onnx(model)
    except (OnnxGraphSurgeonException, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The graph of {name} cannot be read; it may be damaged: {error}.") from error


def module_path(node: onnx.NodeProto) -> str:
    """The PyTorch module path that the exporter recorded for a node, such as `layer4.2.relu`, or "".

    The dynamo exporter keeps a list of scopes in the node's metadata; the TorchScript exporter writes
    `/layer4/layer4.2/relu/Relu`, where a child of a container repeats its parent's path, into the node's name.
    """
    for entry in node.metadata_props:
        if entry.key == _SCOPES_KEY:
            try:
                scopes = load_literal(str(entry.value))
            except ValueError:
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
        return onnx.shape_inference.infer_shapes(skeleton, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        pass  # strict: whatever is odd, be it only a shape that an exporter noted wrongly
    try:
        return onnx.shape_inference.infer_shapes(_without_wrong_shapes(skeleton), data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        text = " ".join(str(error).split())
        raise ModelError(f"The shapes of {name} contradict each other: {text[:300]}.") from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The graph of {name} cannot be analysed: {str(error)[:300]}.") from error


def _without_wrong_shapes(skeleton: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which no tensor or output has a noted shape other than the one that follows from its node.

    Exporters that move transposes about leave such notes behind; ONNX Runtime warns of them and goes by the nodes.
    """
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    followed = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    for value in skeleton.graph.value_info:
        if value.name not in followed or not _contradict(value, followed[value.name]):
            model.graph.value_info.append(value)
    for output, noted in zip(model.graph.output, skeleton.graph.output, strict=True):
        if not _contradict(noted, followed[output.name]):
            output.CopyFrom(noted)
    return model


def _contradict(noted: onnx.ValueInfoProto, followed: onnx.ValueInfoProto) -> bool:
    """Whether two shapes have another rank, or another number on some axis."""
    kinds = [value.type.tensor_type for value in (noted, followed)]
    if not all(kind.HasField("shape") for kind in kinds):
        return False
    first, second = ([d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim] for kind in kinds)
    return len(first) != len(second) or any(
        a != b and a is not None and b is not None for a, b in zip(first, second, strict=True)
    )


def _initializers(model: onnx.ModelProto, name: str) -> dict[str, np.ndarray]:
    stored = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL and t.name]
    return {tensor.name: _array(tensor, name) for tensor in stored}


def _array(tensor: onnx.TensorProto, name: str) -> np.ndarray:
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"The weights '{tensor.name}' of {name} are damaged: {error}.") from error


def _check_order(graph: Graph, name: str) -> None:
    made = set(graph.input_names) | {n for n, t in graph.tensors.items() if isinstance(t, gs.Constant)}
    for node in graph.nodes:
        for tensor in node.inputs:
            if tensor.name and tensor.name not in made:
                raise ModelError(
                    f"In {name}, node '{node.name}' ({node.op}) reads '{tensor.name}', which nothing "
                    "before it makes, in whatever order; the file is damaged."
                )
        again = [tensor.name for tensor in node.outputs if tensor.name and tensor.name in made]
        if again:
            raise ModelError(
                f"In {name}, node '{node.name}' ({node.op}) makes '{again[0]}', which is there before it already; "
                "the file is damaged."
            )
        made.update(tensor.name for tensor in node.outputs)
    for output in graph.output_names:
        if output not in made:
            raise ModelError(f"The output '{output}' of {name} is made by no node; the file is damaged.")
