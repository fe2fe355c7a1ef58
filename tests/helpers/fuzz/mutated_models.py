"""Seeds and mutators for models: from flipped bytes to graphs that are well-formed protobuf and nonsense as models."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeAlias

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from helpers.fuzz.odd_values import (
    DOMAINS,
    FLOATS,
    JSONS,
    NAMES,
    NUMBERS,
    TEXTS,
    all_names,
    any_node,
    array,
    attribute_named,
    number,
    ops,
    ops_of,
    spoil_tensor,
    tensor_named,
)
from helpers.fuzz.seeds import seeds

Mutator: TypeAlias = Callable[[Random, onnx.ModelProto], None]


def make(random: Random) -> bytes:
    """A mutated model, serialised."""
    data = random.choice(seeds())
    kind = random.random()
    if kind < 0.06:
        return damaged(random, data)
    if kind < 0.1:
        return shuffled_records(random, data)
    model = onnx.ModelProto.FromString(data)
    for _ in range(random.choice((1, 1, 1, 1, 1, 2, 2, 3))):
        try:
            random.choice(MUTATORS)(random, model)
        except (ValueError, TypeError, IndexError, OverflowError, UnicodeEncodeError):
            continue  # protobuf refuses the value; another mutation then
    try:
        data = model.SerializeToString()
    except Exception:  # noqa: BLE001  too deep for protobuf
        return data
    return damaged(random, data) if kind > 0.98 else data


def damaged(random: Random, data: bytes) -> bytes:
    """Flipped, cut, doubled, overwritten bytes."""
    result = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        at = random.randrange(len(result) or 1)
        how = random.randrange(6)
        if how == 0 and result:
            result[at] ^= 1 << random.randrange(8)
        elif how == 1 and result:
            result[at] = random.choice((0, 0x7F, 0x80, 0xFF, random.randrange(256)))
        elif how == 2:
            del result[at:]
        elif how == 3:
            del result[at : at + random.randrange(1, 40)]
        elif how == 4:
            result[at:at] = result[at : at + random.randrange(1, 200)]
        else:
            result[at:at] = random.randbytes(random.randrange(1, 12))
        if not result:
            return b""
    return bytes(result)


def shuffled_records(random: Random, data: bytes) -> bytes:
    """Records of the model or its graph doubled, removed or in another order; protobuf itself takes that."""
    from onnx_xcam.surgery.files.wire import _header, _records

    view = memoryview(data)
    parts = [(field, bytes(view[start:end]), bytes(view[body:end])) for field, start, body, end in _records(view)]
    result = []
    for field, record, body in parts:
        if field != 7:
            result.append(record)
            continue
        inner = [bytes(body[s:e]) for _, s, _, e in _records(memoryview(body))]
        for _ in range(random.choice((1, 2, 3))):
            at, to = random.randrange(len(inner)), random.randrange(len(inner))
            how = random.randrange(3)
            if how == 0 and len(inner) > 1:
                del inner[at]
            elif how == 1:
                inner.insert(to, inner[at])
            else:
                inner[at], inner[to] = inner[to], inner[at]
        joined = b"".join(inner)
        result.append(_header(7, len(joined)) + joined)
    if random.random() < 0.3:
        random.shuffle(result)
    if random.random() < 0.2:
        result.append(random.choice(result))
    return b"".join(result)


# --- mutators ---------------------------------------------------------------------------------------------------------


def op_type(random: Random, model: onnx.ModelProto) -> None:
    node, kind = any_node(random, model), random.random()
    if kind < 0.7:
        node.op_type = random.choice(ops_of(len(node.input)))
    else:
        node.op_type = random.choice((*ops(), *NAMES)) if kind < 0.95 else "Unheard"


def domain(random: Random, model: onnx.ModelProto) -> None:
    any_node(random, model).domain = random.choice(DOMAINS)


def attribute(random: Random, model: onnx.ModelProto) -> None:
    """Give an attribute another value or type, add one that the operator knows, or drop one."""
    node = any_node(random, model)
    known = [a.name for a in node.attribute]
    if onnx.defs.has(node.op_type, 17):
        known += list(onnx.defs.get_schema(node.op_type, 17).attributes)
    name = random.choice((*known, *known, "axis", "axes", "perm", "to", "value", ""))
    for i, old in enumerate(node.attribute):
        if old.name == name and random.random() < 0.9:
            del node.attribute[i]
            break
    if random.random() < 0.85:
        node.attribute.append(attribute_named(random, name))


def attribute_value(random: Random, model: onnx.ModelProto) -> None:
    """Another value of the same type."""
    made = [a for node in model.graph.node for a in node.attribute]
    if not made:
        return
    chosen = random.choice(made)
    if chosen.ints:
        chosen.ints[random.randrange(len(chosen.ints))] = number(random)
    elif chosen.HasField("t"):
        spoil_tensor(random, chosen.t)
    elif chosen.type == AttributeProto.STRING:
        chosen.s = random.choice(TEXTS).encode("utf-8", "replace")
    elif chosen.type == AttributeProto.FLOAT:
        chosen.f = random.choice(FLOATS)
    else:
        chosen.i = number(random)


def rewire(random: Random, model: onnx.ModelProto) -> None:
    """Another tensor at an input or output; one more or one less."""
    node = any_node(random, model)
    tensors = node.input if random.random() < 0.6 else node.output
    how = random.random()
    if how < 0.5 and tensors:
        tensors[random.randrange(len(tensors))] = random.choice(all_names(model))
    elif how < 0.75:
        tensors.append(random.choice(all_names(model)))
    elif tensors:
        del tensors[random.randrange(len(tensors))]


def rename(random: Random, model: onnx.ModelProto) -> None:
    """A tensor's name, everywhere."""
    old, new = random.choice(all_names(model)), random.choice(NAMES)
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for i, name in enumerate(tensors):
                tensors[i] = new if name == old else name
    for thing in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        thing.name = new if thing.name == old else thing.name


def dims(random: Random, model: onnx.ModelProto) -> None:
    """The shape or type of an input, an output or a noted tensor."""
    graph = model.graph
    if random.random() < 0.4:
        kind = random.choice((1, 1, 1, 7, 10, 8, 0, 99))
        made = [name for node in graph.node for name in node.output if name]
        graph.value_info.add().CopyFrom(
            helper.make_tensor_value_info(
                random.choice(made), kind, [number(random) for _ in range(random.randrange(6))]
            )
        )
        return
    info = random.choice((*graph.input, *graph.input, *graph.output, *graph.value_info))
    how = random.randrange(6)
    if how == 0:
        info.type.tensor_type.elem_type = random.choice((*range(24), 1000))
    elif how == 1:
        info.type.tensor_type.ClearField("shape")
    elif how == 2:
        info.type.sequence_type.elem_type.tensor_type.elem_type = 1
    elif how == 3:
        info.type.tensor_type.shape.dim.add().dim_value = number(random)
    elif info.type.tensor_type.shape.dim:
        dim = random.choice(info.type.tensor_type.shape.dim)
        if random.random() < 0.8:
            dim.dim_value = number(random)
        else:
            dim.dim_param = random.choice(NAMES)


def weights(random: Random, model: onnx.ModelProto) -> None:
    """Initializers: other values, dims, types, external, sparse, doubled."""
    tensors = model.graph.initializer
    how = random.randrange(5)
    if not tensors or how == 0:
        tensors.append(tensor_named(random, random.choice(all_names(model))))
    elif how == 1:
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(tensor_named(random, random.choice(all_names(model))))
        sparse.indices.CopyFrom(tensor_named(random))
        sparse.dims.extend(number(random) for _ in range(random.randrange(3)))
    elif how == 2:
        chosen = random.choice(tensors)
        name = chosen.name
        chosen.CopyFrom(numpy_helper.from_array(array(random), name))
    else:
        spoil_tensor(random, random.choice(tensors))


def numbers_of(random: Random, model: onnx.ModelProto) -> None:
    """Values of an integer initializer: shapes, axes, indices, repeats."""
    found = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64 and len(t.raw_data) >= 8]
    if found:
        chosen = random.choice(found)
        values = np.frombuffer(chosen.raw_data, np.int64).copy()
        values[random.randrange(len(values))] = number(random)
        chosen.raw_data = values.tobytes()


def insert(random: Random, model: onnx.ModelProto) -> None:
    """A new node of any operator, with constants and tensors of the graph as inputs, perhaps in the way."""
    op = random.choice(ops())
    names = [name for node in model.graph.node for name in node.output if name]
    at = random.randrange(len(model.graph.node) + 1)
    inputs = []
    for _ in range(random.choice((0, 1, 1, 2, 2, 3, 4))):
        if random.random() < 0.5:
            inputs.append(random.choice(names))
        else:
            inputs.append(f"new{random.randrange(10**9)}")
            model.graph.initializer.append(tensor_named(random, inputs[-1]))
    out = f"made{random.randrange(10**9)}"
    node = helper.make_node(op, inputs, [out])
    if onnx.defs.has(op, 17):
        for name, schema in onnx.defs.get_schema(op, 17).attributes.items():
            if schema.required or random.random() < 0.3:
                node.attribute.append(attribute_named(random, name))
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    if random.random() < 0.6 and at < len(nodes) and nodes[at].input:
        nodes[at].input[random.randrange(len(nodes[at].input))] = out
    nodes.insert(at, node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def giant(random: Random, model: onnx.ModelProto) -> None:
    """Constants that make something gigantic, if they are evaluated."""
    size = [random.choice((2**10, 2**16, 2**20, 2**31, 2**40)) for _ in range(random.choice((1, 2, 3)))]
    name = f"giant{random.randrange(10**9)}"
    model.graph.initializer.append(numpy_helper.from_array(np.array(size), f"{name}/size"))
    one = numpy_helper.from_array(np.ones([1] * len(size), np.float32), f"{name}/one")
    model.graph.initializer.append(one)
    op = random.choice(("ConstantOfShape", "Expand", "Tile", "Range", "Reshape", "Pad", "OneHot", "Resize"))
    inputs = {
        "ConstantOfShape": [f"{name}/size"],
        "Range": [f"{name}/size"] * 3,
        "Resize": [f"{name}/one", "", "", f"{name}/size"],
    }
    node = helper.make_node(op, inputs.get(op, [f"{name}/one", f"{name}/size"]), [name])
    model.graph.node.insert(random.randrange(len(model.graph.node) + 1), node)
    if random.random() < 0.5:
        model.graph.value_info.append(helper.make_tensor_value_info(name, 1, [1] * len(size)))


def branch(random: Random, model: onnx.ModelProto) -> None:
    """A node wrapped into an If or Loop, some levels deep."""
    index = random.randrange(len(model.graph.node))
    node = onnx.NodeProto.FromString(model.graph.node[index].SerializeToString())
    if not node.output or not node.output[0]:
        return
    name = f"wrapped{random.randrange(10**9)}"
    for level in range(random.choice((1, 1, 2, 5, 12))):
        out = f"{name}/{level}"
        info = helper.make_tensor_value_info(node.output[0], 1, None)
        graph = helper.make_graph([node], out, [], [info])
        outer = helper.make_node(random.choice(("If", "If", "If", "Loop", "Scan")), [f"{name}/yes"], [out])
        outer.attribute.append(helper.make_attribute("then_branch", graph))
        other = helper.make_graph([helper.make_node("Identity", list(node.input[:1]), ["other"])], "other", [], [info])
        outer.attribute.append(helper.make_attribute(random.choice(("else_branch", "else_branch", "body", "x")), other))
        node = outer
    node.output[0] = model.graph.node[index].output[0]
    model.graph.node[index].CopyFrom(node)
    if random.random() < 0.8:
        model.graph.initializer.append(numpy_helper.from_array(np.array(random.random() < 0.5), f"{name}/yes"))


def function(random: Random, model: onnx.ModelProto) -> None:
    """A local function that may call itself or others, in place of a node."""
    node = random.choice(model.graph.node)
    name = random.choice(("F", "G", node.op_type))
    domain_name = random.choice(("own", "", "ai.onnx"))
    calls = [
        helper.make_node(
            random.choice(("F", "G", "Relu", node.op_type)), ["v0"], ["v1"], domain=random.choice((domain_name, ""))
        )
    ]
    opsets = [
        helper.make_opsetid("", random.choice((17, 17, 11, 99))),
        helper.make_opsetid("own", random.choice((1, 1, 7))),
    ]
    model.functions.append(helper.make_function(domain_name, name, ["v0"], ["v1"], calls, opsets))
    node.op_type, node.domain = name, domain_name
    if random.random() < 0.8:
        model.opset_import.append(helper.make_opsetid("own", 1))


def opset(random: Random, model: onnx.ModelProto) -> None:
    if random.random() < 0.3:
        model.ir_version = random.choice((*range(14), *NUMBERS))
        return
    if model.opset_import and random.random() < 0.8:
        random.choice(model.opset_import).version = random.choice((*range(1, 28), *NUMBERS))
    else:
        model.opset_import.add(domain=random.choice(DOMAINS), version=random.choice((1, 9, 17, -1)))


def metadata(random: Random, model: onnx.ModelProto) -> None:
    keys = ("onnx_xcam", "onnx_xcam.labels", "onnx_xcam.preprocess", "names", "labels", "classes", "id2label")
    model.metadata_props.add(key=random.choice(keys), value=random.choice(JSONS))
    if random.random() < 0.3:
        node = random.choice(model.graph.node)
        node.metadata_props.add(
            key="pkg.torch.onnx.name_scopes", value=random.choice((*JSONS, "['', 'a', 'b']", "['a'"))
        )


def instrumented(random: Random, model: onnx.ModelProto) -> None:
    """Make it look as if it were instrumented already."""
    names = ("xcam_classes", "xcam_scores", "xcam_map", "xcam_status", "xcam_class")
    for name in random.sample(names, random.randrange(1, 5)):
        model.graph.output.add().CopyFrom(helper.make_tensor_value_info(name, random.choice((1, 7)), None))


def order(random: Random, model: onnx.ModelProto) -> None:
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    at, to = random.randrange(len(nodes)), random.randrange(len(nodes))
    if random.random() < 0.5:
        nodes[at], nodes[to] = nodes[to], nodes[at]
    else:
        del nodes[at]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def outputs(random: Random, model: onnx.ModelProto) -> None:
    """Other tensors as outputs."""
    made = [name for node in model.graph.node for name in node.output if name]
    if random.random() < 0.5 and model.graph.output:
        model.graph.output[0].name = random.choice(made)
    else:
        model.graph.output.add().name = random.choice(made)


MUTATORS: tuple[Mutator, ...] = (
    op_type,
    op_type,
    domain,
    attribute,
    attribute,
    attribute,
    attribute_value,
    attribute_value,
    attribute_value,
    rewire,
    rewire,
    rename,
    dims,
    dims,
    weights,
    weights,
    numbers_of,
    numbers_of,
    numbers_of,
    insert,
    insert,
    insert,
    insert,
    giant,
    branch,
    function,
    opset,
    metadata,
    instrumented,
    order,
    outputs,
)
