"""This module verifies that a model keeps the rules of ONNX that the surgery relies on; otherwise it is damaged.

A model file is input from outside. Protobuf only guarantees that it is a ModelProto: an operator may lack inputs or
attributes, functions may call themselves, and sizes may exceed any memory.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.ir.protos import is_standard, subgraphs

MOST_NODES = 500_000
"""A model with more nodes than this is refused, since an analysis would take minutes and gigabytes."""


def check_nodes(model: onnx.ModelProto, name: str) -> None:
    """Make sure that every node has the inputs, outputs and attributes that its operator is defined with.

    Operators that the installed onnx does not know are not checked.

    Raises:
        ModelError: a node does not, or there are more nodes than any model has.
    """
    opset = _opset(model)
    for count, node in enumerate(_all_nodes(model), 1):
        if count > MOST_NODES:
            raise ModelError(f"{name} has more than {MOST_NODES} nodes, too many to be explained.")
        problem = _problem(node, opset)
        if problem:
            raise ModelError(
                f"Node '{node.name or next(iter(node.output), '')}' ({node.op_type}) of {name} is not as the operator "
                f"is defined: {problem}; the file is damaged."
            )


def refusal(model: onnx.ModelProto) -> str | None:
    """Return why onnx's own shape and type inference refuses a model, None if it does not.

    The shapes that the file notes are ignored, since ONNX Runtime goes by the nodes. Nodes whose operator came after
    the model's opset are ignored, since onnx reports nothing beside one. A model with operators that onnx does not know
    is not judged.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(without_negative_sizes(model))
    known = {function.domain for function in bare.functions}
    if not all(is_standard(node.domain) or node.domain in known for node in _all_nodes(bare)):
        return None
    known_nodes = [node for node in bare.graph.node if _form(node.op_type, _opset(model)) or node.domain in known]
    if len(known_nodes) < len(bare.graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in known_nodes]
        del bare.graph.node[:]
        bare.graph.node.extend(kept)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        return " ".join(str(error).split())[:300]
    return None


def _opset(model: onnx.ModelProto) -> int:
    """Return the version of the standard operators that a model is written in, 0 if it names none."""
    return next((entry.version for entry in model.opset_import if is_standard(entry.domain)), 0)


def without_negative_sizes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model itself, or a copy with unknown sizes in place of those below zero, such as -1 of some exporters.

    The shape inference of onnx accepts negative sizes, and may abort the process because of one.
    """
    if not any(_is_negative(dim) for dim in _stated_sizes(model.graph)):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for dim in _stated_sizes(copy.graph):
        if _is_negative(dim):
            dim.ClearField("dim_value")
    return copy


def _is_negative(dim: onnx.TensorShapeProto.Dimension) -> bool:
    """Tell whether a dimension is a number below zero."""
    return dim.HasField("dim_value") and dim.dim_value < 0


def _stated_sizes(graph: onnx.GraphProto) -> Iterator[onnx.TensorShapeProto.Dimension]:
    """Yield every size that a graph and its subgraphs state."""
    graphs = [graph]
    while graphs:
        inner = graphs.pop()
        for value in (*inner.input, *inner.output, *inner.value_info):
            yield from value.type.tensor_type.shape.dim
        graphs += [subgraph for node in inner.node for subgraph in subgraphs(node)]


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield all nodes of a model, with those of subgraphs and local functions."""
    stack: list[onnx.NodeProto] = [*model.graph.node, *(node for f in model.functions for node in f.node)]
    while stack:
        node = stack.pop()
        yield node
        for graph in subgraphs(node):
            stack.extend(graph.node)


def _problem(node: onnx.NodeProto, opset: int) -> str | None:
    """Return what is wrong with a node, None if nothing is."""
    names = [*node.input, *node.output, node.op_type, node.domain, node.name, *(a.name for a in node.attribute)]
    if any(isinstance(name, bytes) for name in names):  # protobuf returns bytes for what is not UTF-8
        return "it holds names that are not text"
    if not node.output:
        return "it has no output"
    made = [name for name in node.output if name]
    if len(set(made)) < len(made):
        return "two of its outputs have one name"
    form = _form(node.op_type, opset) if is_standard(node.domain) else None
    return None if form is None else _against(node, form)


@dataclass(frozen=True)
class _Form:
    """A _Form says how an operator is defined.

    Attributes:
        inputs: the smallest and the largest number of inputs.
        outputs: the smallest and the largest number of outputs.
        single: for each input, whether it must be given.
        attributes: the type of each attribute.
        required: the attributes that must be given.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    single: tuple[bool, ...]
    attributes: Mapping[str, int]
    required: tuple[str, ...]


_FLAGS = frozenset({"allowzero", "ceil_mode", "count_include_pad", "keepdims", "transA", "transB"})
"""These attributes are 0 or 1 wherever they occur; readers disagree about other numbers."""


@functools.cache
def _form(op: str, opset: int) -> _Form | None:
    """Return how an operator is defined, None if the installed onnx does not know it."""
    if not onnx.defs.has(op, opset):
        return None
    schema = onnx.defs.get_schema(op, opset)
    kinds: Any = {name: attribute.type for name, attribute in schema.attributes.items()}  # the stubs lack `value`
    return _Form(
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        tuple(port.option == onnx.defs.OpSchema.FormalParameterOption.Single for port in schema.inputs),
        {name: int(kind.value) for name, kind in kinds.items()},
        tuple(name for name, attribute in schema.attributes.items() if attribute.required),
    )


def _against(node: onnx.NodeProto, form: _Form) -> str | None:
    """Return how a node differs from its operator's form, None if it does not."""
    for what, names, (least, most) in (("inputs", node.input, form.inputs), ("outputs", node.output, form.outputs)):
        if not least <= len(names) <= most:
            return f"it has {len(names)} {what}, not {least} to {most}"
    if any(needed and not name for name, needed in zip(node.input, form.single, strict=False)):
        return "an input that it needs is left out"
    for attribute in node.attribute:
        wanted = form.attributes.get(attribute.name)
        if wanted is None or attribute.ref_attr_name or attribute.type == wanted:
            continue
        if attribute.type or not _holds(attribute, wanted):
            return f"its attribute '{attribute.name}' has another type"
    for attribute in node.attribute:
        if attribute.name in _FLAGS and not attribute.ref_attr_name and attribute.i not in (0, 1):
            return f"its attribute '{attribute.name}' is {attribute.i}, not 0 or 1"
    given = {attribute.name for attribute in node.attribute}
    return next((f"its attribute '{name}' is missing" for name in form.required if name not in given), None)


def _holds(attribute: onnx.AttributeProto, kind: int) -> bool:
    """Tell whether an attribute of an old file, which states no type, has a value of this type."""
    fields = {1: "f", 2: "i", 3: "s", 4: "t", 5: "g", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 10: "graphs"}
    field = fields.get(kind, "")
    return bool(field) and (bool(getattr(attribute, field)) if kind > 5 else attribute.HasField(field))


def inlined_size(model: onnx.ModelProto, name: str) -> int:
    """Return how many nodes the graph has once its local functions are inlined.

    Raises:
        ModelError: a function calls itself, or the graph would be gigantic.
    """
    bodies = {(f.domain, f.name): list(_calls(f.node)) for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size(calls: Iterable[tuple[str, str]]) -> int:
        total = sum(sizes.get(call, 1) for call in calls)
        if total > MOST_NODES:
            raise ModelError(f"{name} would have more than {MOST_NODES} nodes once its local functions are inlined.")
        return total

    for function in _callees_first(bodies, name):
        sizes[function] = size(bodies[function])
    return size(_calls(model.graph.node))


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str]]:
    """Yield domain and name of the operators of nodes, with those of their subgraphs."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        yield node.domain, node.op_type
        for graph in subgraphs(node):
            stack.extend(graph.node)


def _callees_first(bodies: dict[tuple[str, str], list[tuple[str, str]]], name: str) -> Iterator[tuple[str, str]]:
    """Yield the functions, each after those that it calls.

    Raises:
        ModelError: a function calls itself.
    """
    state: dict[tuple[str, str], bool] = {}  # False while the callees are visited, True after
    for start in bodies:
        stack = [start]
        while stack:
            function = stack[-1]
            if state.get(function):
                stack.pop()
                continue
            below = [call for call in dict.fromkeys(bodies[function]) if call in bodies and not state.get(call)]
            if function not in state:
                state[function] = False
                if any(state.get(call) is False for call in below):
                    raise ModelError(f"A local function of {name}, '{function[1]}', calls itself; the file is damaged.")
                stack.extend(below)
                continue
            state[function] = True
            stack.pop()
            yield function
