"""This module makes a Graph of a skeleton, for analysis only: operators lowered, shapes inferred, constants folded."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import numpy_helper
from onnx_graphsurgeon.logger import G_LOGGER
from onnx_graphsurgeon.util.exception import OnnxGraphSurgeonException

from onnx_xcam.errors import ModelError, UnexpectedError
from onnx_xcam.surgery.analysis.foreign_operators import foreign_operators
from onnx_xcam.surgery.analysis.refusals import refuse_one_machine, refuse_types
from onnx_xcam.surgery.analysis.symbolic_shapes import INVENTED, refine
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.verify import without_negative_sizes
from onnx_xcam.surgery.lowering import lowered
from onnx_xcam.text import load_literal

_SCOPES_KEY = "pkg.torch.onnx.name_scopes"
"""PyTorch's dynamo exporter writes a node's module scopes under this key of its metadata."""
LONGEST_VECTOR = 1 << 20
"""Vectors longer than this would slow down onnx's shape inference, which keeps a record of each element."""


def prepare(skeleton: onnx.ModelProto, name: str = "the model") -> Graph:
    """Return the graph of a skeleton, ready for analysis.

    Raises:
        ModelError: the graph contradicts itself (a cycle, wrong types, a tensor that nothing makes), or is of a kind
            that is refused (see refusals.py).
    """
    refuse_one_machine(skeleton, name)
    standard = lowered(without_negative_sizes(skeleton))
    model = _with_shapes(standard.model, skeleton, name)
    _drop_repeated_notes(model.graph)
    scopes = {i: path for i, node in enumerate(model.graph.node) if (path := module_path(node))}
    graph = _imported(model, name)
    constants = _initializers(model, name)
    result = Graph(graph, constants, scopes, inner=standard.inner, stand_ins=standard.stand_ins, same=standard.same)
    _check_order(result, name)
    with G_LOGGER.suppress(G_LOGGER.CRITICAL + 1):  # it prints to stdout about types that numpy lacks
        refine(result)
    refuse_types(result, name)
    return result


def _imported(model: onnx.ModelProto, name: str) -> gs.Graph:
    """Return the graph as onnx-graphsurgeon reads it.

    Raises:
        ModelError: the graph cannot be read.
    """
    try:
        with G_LOGGER.suppress(G_LOGGER.CRITICAL + 1):  # it prints to stdout
            return gs.import_onnx(model)
    except (OnnxGraphSurgeonException, KeyError, TypeError, ValueError) as error:
        if foreign := foreign_operators(model):  # of another framework, perhaps with attributes that are no texts
            raise ModelError(f"The graph of {name} cannot be read. {foreign.sentence()}") from error
        raise ModelError(f"The graph of {name} cannot be read; it may be damaged: {error}.") from error


def module_path(node: onnx.NodeProto) -> str:
    """Return the PyTorch module path that the exporter recorded for a node, such as `layer4.2.relu`, or "".

    The dynamo exporter keeps a list of scopes in the node's metadata; the TorchScript exporter writes
    `/layer4/layer4.2/relu/Relu`, where a child of a container repeats its parent's path, into the node's name. ONNX
    Runtime's optimiser leaves some of these names and adds to them: `fused /fc/Gemm`, `/norm/Mul/LayerNormFusion/`.
    """
    for entry in node.metadata_props:
        if entry.key == _SCOPES_KEY:
            try:
                scopes = load_literal(str(entry.value))
            except ValueError:
                return ""
            return str(scopes[-2]) if isinstance(scopes, list) and len(scopes) >= 2 else ""
    first, *scopes = node.name.removeprefix("fused ").split("/")
    if first:
        return ""
    while scopes and (not (last := scopes[-1].partition(":")[0]) or last.endswith("Fusion")):
        scopes.pop()
    path: list[str] = []
    for scope in scopes[:-1]:
        if path and scope.startswith(path[-1] + "."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path)


def _with_shapes(skeleton: onnx.ModelProto, original: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the lowered skeleton with all shapes that onnx infers.

    Args:
        skeleton: the lowered skeleton.
        original: the skeleton before lowering, which shows whether a failure is due to the lowering.
        name: the model's name in messages.

    Raises:
        ModelError: the shapes contradict each other, or cannot be inferred.
        UnexpectedError: only those of the lowered skeleton do.
    """
    try:
        return _inferred(skeleton, strict=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        pass  # strict inference also fails where an exporter only noted a wrong shape
    try:
        return _inferred(_without_wrong_shapes(skeleton), strict=False)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        if foreign := foreign_operators(skeleton):
            raise ModelError(f"The shapes of {name} cannot be inferred. {foreign.sentence()}") from error
        if not isinstance(error, onnx.shape_inference.InferenceError):
            raise ModelError(f"The graph of {name} cannot be analysed: {str(error)[:300]}.") from error
        text = " ".join(str(error).split())
        if _can_be_inferred(original):
            raise UnexpectedError(
                f"The shapes of {name}, in the operators that it is analysed by, contradict each other ({text[:300]}); "
                "that is a bug here or a damaged file: please report it."
            ) from error
        raise ModelError(f"The shapes of {name} contradict each other: {text[:300]}.") from error


def _can_be_inferred(original: onnx.ModelProto) -> bool:
    """Tell whether onnx infers the shapes of the file itself, so that a contradiction is due to the lowering."""
    try:
        _inferred(_without_wrong_shapes(without_negative_sizes(original)), strict=False)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        return False
    return True


def _drop_repeated_notes(graph: onnx.GraphProto) -> None:
    """Drop the notes on inner tensors that name an output of the graph a second time.

    Half-precision converters leave such notes, without shapes; they would be read last and so replace the output's.
    """
    known = {value.name for value in graph.output if value.type.tensor_type.HasField("shape")}
    kept = [value for value in graph.value_info if value.name not in known]
    if len(kept) < len(graph.value_info):
        del graph.value_info[:]
        graph.value_info.extend(kept)


def _with_spectrum_default(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model itself, or a copy with STFT nodes that state which half of the spectrum they give.

    The shape inference of onnx (1.22) takes 0 for `onesided` where a node leaves it out; the standard's default is 1.
    """

    def silent(node: onnx.NodeProto) -> bool:
        return node.op_type == "STFT" and not any(attribute.name == "onesided" for attribute in node.attribute)

    if not any(map(silent, model.graph.node)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in filter(silent, copy.graph.node):
        node.attribute.append(onnx.helper.make_attribute("onesided", 1))
    return copy


def _inferred(model: onnx.ModelProto, *, strict: bool) -> onnx.ModelProto:
    """Return the model with the shapes that onnx infers, following the values of integer tensors where that is needed.

    To follow these values, onnx keeps a record for each element of any vector of known length, even for one of 2**40:
    so values are not followed in a model with such a vector.
    """
    model = _with_spectrum_default(model)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=strict)
    shapes = {value.name: value.type.tensor_type for value in (*inferred.graph.value_info, *inferred.graph.output)}
    stated = [value.type.tensor_type for value in inferred.graph.input]
    lengths = [kind.shape.dim[0].dim_value for kind in (*shapes.values(), *stated) if len(kind.shape.dim) == 1]
    lengths += [tensor.dims[0] for tensor in inferred.graph.initializer if len(tensor.dims) == 1]
    named = [name for node in inferred.graph.node for name in node.output if name]
    if max(lengths, default=0) > LONGEST_VECTOR or all(name in shapes and _is_known(shapes[name]) for name in named):
        return inferred
    return onnx.shape_inference.infer_shapes(model, strict_mode=strict, data_prop=True)


def _is_known(kind: onnx.TypeProto.Tensor) -> bool:
    """Tell whether a shape is known, with a number or a symbol for each dimension."""
    return kind.HasField("shape") and all(
        dim.HasField("dim_value") or (dim.dim_param and not str(dim.dim_param).startswith(INVENTED))
        for dim in kind.shape.dim
    )


def _without_wrong_shapes(skeleton: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the noted shapes that contradict those that follow from the nodes.

    Exporters that move transposes leave such notes behind; ONNX Runtime warns of them and goes by the nodes.
    """
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = _inferred(model, strict=False).graph
    followed = {value.name: value for value in (*inferred.value_info, *inferred.output)}
    for value in skeleton.graph.value_info:
        if value.name not in followed or not _contradict(value, followed[value.name]):
            model.graph.value_info.append(value)
    for output, noted in zip(model.graph.output, skeleton.graph.output, strict=True):
        if not _contradict(noted, followed[output.name]):
            output.CopyFrom(noted)
    return model


def _contradict(noted: onnx.ValueInfoProto, followed: onnx.ValueInfoProto) -> bool:
    """Tell whether two shapes differ in rank, or in the number on some axis."""
    kinds = [value.type.tensor_type for value in (noted, followed)]
    if not all(kind.HasField("shape") for kind in kinds):
        return False
    first, second = ([d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim] for kind in kinds)
    return len(first) != len(second) or any(
        a != b and a is not None and b is not None for a, b in zip(first, second, strict=True)
    )


def _initializers(model: onnx.ModelProto, name: str) -> dict[str, np.ndarray]:
    """Return the values of the initializers that are in the skeleton, by name."""
    stored = [t for t in model.graph.initializer if t.data_location != onnx.TensorProto.EXTERNAL and t.name]
    return {tensor.name: _array(tensor, name) for tensor in stored}


def _array(tensor: onnx.TensorProto, name: str) -> np.ndarray:
    """Return the values of an initializer.

    Raises:
        ModelError: they are damaged.
    """
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(f"The weights '{tensor.name}' of {name} are damaged: {error}.") from error


def _check_order(graph: Graph, name: str) -> None:
    """Raise ModelError if a node reads a tensor that nothing before it makes, or makes one that exists already."""
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
