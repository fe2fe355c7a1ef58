"""Models, labels and descriptions that are made to hurt: deep, wide, cyclic, or promising much in few bytes.

Each is a function that makes it in code, so that nothing large lies in the repository.
`tests/models/test_hostile_models.py` runs each one in another process, within bounds of time and memory.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, build, cnn

ESCAPES = "\x1b[31mred\x1b[0m\r\n\u202etxt.exe\u2066 [bold]x[/bold] <b>&amp;</b> \x9b2J\x00 ../../up \u2028 end"
"""A name as an attacker would choose it: colours, line ends, right-to-left marks, markup, a path, a zero byte."""
ESCAPED_NAME = ESCAPES.replace("\x00", "")


def _chain(nodes: list[onnx.NodeProto], before: str, after: str) -> onnx.ModelProto:
    """`cnn` with nodes between the tensors `a` and the head: they read `before` and make `after`."""
    model = cnn("gap")
    at = next(i for i, node in enumerate(model.graph.node) if "a" in node.output)
    old = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
    old[at].output[0] = before
    old[at + 1].input[0] = after
    del model.graph.node[:]
    model.graph.node.extend([*old[: at + 1], *nodes, *old[at + 1 :]])
    return model


def chain(op: str, count: int, *, twice: bool = False, domain: str = "") -> onnx.ModelProto:
    """A chain of nodes from the layer to the head, each reading the one before it, or twice the one before it."""
    nodes = [
        helper.make_node(op, [f"t{i}"] * (2 if twice else 1), [f"t{i + 1}"], f"n{i}", domain=domain)
        for i in range(count)
    ]
    model = _chain(nodes, "t0", f"t{count}")
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def wide(count: int) -> onnx.ModelProto:
    """One tensor with many readers, summed by one node."""
    nodes = [helper.make_node("Abs", ["t0"], [f"wide{i}"], f"n{i}") for i in range(count)]
    nodes.append(helper.make_node("Sum", [f"wide{i}" for i in range(count)], ["t1"], "sum"))
    return _chain(nodes, "t0", "t1")


def ladder(count: int) -> onnx.ModelProto:
    """Each node adds the first and the last tensor: long skips, readers by the thousand."""
    nodes = [helper.make_node("Add", ["t0", f"t{i}"], [f"t{i + 1}"], f"n{i}") for i in range(count)]
    return _chain(nodes, "t0", f"t{count}")


def dead(count: int) -> onnx.ModelProto:
    """Nodes that lead nowhere."""
    model = cnn("gap")
    model.graph.node.extend(helper.make_node("Relu", ["a"], [f"dead{i}"], f"n{i}") for i in range(count))
    return model


def dead_constants(count: int) -> onnx.ModelProto:
    """A chain of constants, each as large as is folded at most."""
    model = cnn("gap")
    model.graph.node.add().CopyFrom(
        helper.make_node(
            "ConstantOfShape", ["size"], ["k0"], value=numpy_helper.from_array(np.ones(1, np.float64), "one")
        )
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([1 << 16]), "size"))
    model.graph.node.extend(helper.make_node("Sqrt", [f"k{i}"], [f"k{i + 1}"]) for i in range(count))
    return model


def folded(
    op: str, inputs: dict[str, np.ndarray], said: list[int] | None = None, **attributes: object
) -> onnx.ModelProto:
    """A node of constants whose result nothing needs; `said` is what the file claims of its shape."""
    model = cnn("gap")
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in inputs.items())
    model.graph.node.append(helper.make_node(op, list(inputs), ["folded"], **attributes))
    return model


def hidden_size(op: str) -> onnx.ModelProto:
    """A gigantic result whose size shape inference does not see, and the file states as small."""
    huge = np.array([1 << 20, 1 << 20])
    inputs = {"Tile": {"x": np.ones((1, 1), np.float32)}, "Expand": {"x": np.ones((1, 1), np.float32)}}
    model = cnn("gap")
    given = inputs.get(op, {})
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in given.items())
    model.graph.initializer.append(numpy_helper.from_array(huge, "huge"))
    model.graph.node.append(helper.make_node("Abs", ["huge"], ["hidden"]))
    model.graph.node.append(helper.make_node("Neg", ["hidden"], ["negative"]))
    model.graph.node.append(helper.make_node("Neg", ["negative"], ["size"]))
    model.graph.node.append(helper.make_node(op, [*given, "size"], ["folded"]))
    model.graph.value_info.append(helper.make_tensor_value_info("folded", 1, [1, 1]))
    return model


def strings(count: int) -> onnx.ModelProto:
    """A text that doubles with each node."""
    model = cnn("gap", opset=20)
    model.graph.node.append(helper.make_node("Constant", [], ["s0"], value_strings=["x" * 1000]))
    model.graph.node.extend(helper.make_node("StringConcat", [f"s{i}", f"s{i}"], [f"s{i + 1}"]) for i in range(count))
    return model


def stated_weights() -> onnx.ModelProto:
    """Initializers of 2**60 elements, in few bytes."""
    model = cnn("gap")
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            del tensor.dims[:]
            tensor.dims.extend([1 << 30, 1 << 30])
    return model


def huge_image(side: int) -> onnx.ModelProto:
    return cnn("gap", size=side)


def huge_resize(sizes: list[int]) -> onnx.ModelProto:
    text = 'r = Resize<mode="linear">(c2, , , sizes)  a = Relu(r)'
    return build(TRUNK + text + " " + GAP, {**TRUNK_WEIGHTS, **GAP_WEIGHTS, "sizes": np.array(sizes)})


def nested_if(depth: int) -> onnx.ModelProto:
    """If in If in If, all with a known condition."""
    inner = helper.make_graph([helper.make_node("Relu", ["t0"], ["b0"])], "g0", [], [_out("b0")])
    for level in range(1, depth):
        end = [helper.make_node("Neg", ["t0"], [f"e{level}"])]
        other = helper.make_graph(end, f"e{level}", [], [_out(f"e{level}")])
        node = helper.make_node("If", ["yes"], [f"b{level}"], then_branch=inner, else_branch=other)
        inner = helper.make_graph([node], f"g{level}", [], [_out(f"b{level}")])
    other = helper.make_graph([helper.make_node("Neg", ["t0"], ["other"])], "other", [], [_out("other")])
    model = _chain([helper.make_node("If", ["yes"], ["t1"], then_branch=inner, else_branch=other)], "t0", "t1")
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    return model


def _out(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, 1, None)


def functions(calls: dict[str, list[str]], first: str) -> onnx.ModelProto:
    """Local functions, each a chain of calls (or `Relu`)."""
    model = _chain([helper.make_node(first, ["t0"], ["t1"], domain="own")], "t0", "t1")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.opset_import.append(opsets[1])
    for name, body in calls.items():
        nodes = [
            helper.make_node(op, [f"v{i}"], [f"v{i + 1}"], domain="" if op == "Relu" else "own")
            for i, op in enumerate(body)
        ]
        model.functions.append(helper.make_function("own", name, ["v0"], [f"v{len(body)}"], nodes, opsets))
    return model


def recursive_function() -> onnx.ModelProto:
    return functions({"F": ["Relu", "G"], "G": ["F"]}, "F")


def function_tower(height: int, width: int) -> onnx.ModelProto:
    """Each function calls the one below it `width` times: width ** height nodes when inlined."""
    calls = {f"F{i}": [f"F{i - 1}"] * width for i in range(1, height)}
    return functions({"F0": ["Relu"], **calls}, f"F{height - 1}")


def deep_functions(height: int) -> onnx.ModelProto:
    return function_tower(height, 1)


def function_in_function_body() -> onnx.ModelProto:
    """A function that calls itself from a branch inside of its body."""
    model = functions({"F": ["Relu"]}, "F")
    call = helper.make_graph([helper.make_node("F", ["v0"], ["y"], domain="own")], "g", [], [_out("y")])
    other = helper.make_graph([helper.make_node("Relu", ["v0"], ["z"])], "h", [], [_out("z")])
    body = model.functions[0]
    del body.node[:]
    body.node.append(helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True), "yes")))
    body.node.append(helper.make_node("If", ["yes"], ["v1"], then_branch=call, else_branch=other))
    return model


def named(name: str) -> onnx.ModelProto:
    """The feature map, the node that makes it, the output, the input and the graph, called by this name."""
    model = cnn("gap")
    for number, node in enumerate(model.graph.node):
        for tensors in (node.input, node.output):
            for i, tensor in enumerate(tensors):
                tensors[i] = f"{tensor} {name}" if tensor in ("a", "image", "logits") else tensor
        node.name = f"{node.op_type} {number} {name}"
    model.graph.name = name
    model.graph.input[0].name = f"image {name}"
    model.graph.output[0].name = f"logits {name}"
    return model


def with_metadata(**entries: str) -> onnx.ModelProto:
    model = cnn("gap")
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)
    return model


def scoped(text: str) -> onnx.ModelProto:
    model = cnn("gap")
    for node in model.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=text)
    return model


def ranks(rank: int) -> onnx.ModelProto:
    """Tensors of very many axes."""
    shape = [1] * (rank - 1) + [4]
    model = _chain(
        [
            helper.make_node("Reshape", ["t0", "many"], ["t1"]),
            helper.make_node("Relu", ["t1"], ["t2"]),
            helper.make_node("Reshape", ["t2", "four"], ["t3"]),
        ],
        "t0",
        "t3",
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([*shape[:-1], -1]), "many"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1, 4, 6, 6]), "four"))
    return model


def long_vectors(op: str) -> onnx.ModelProto:
    """A vector of very many elements, and an operator that onnx follows by the values of its elements."""
    model = cnn("gap")
    model.graph.input.append(helper.make_tensor_value_info("vector", TensorProto.INT64, [1 << 40]))
    second = ["vector"] if op in ("Add", "Mul", "Concat") else ["at"]
    attributes = {"Concat": {"axis": 0}, "Cast": {"to": 7}}.get(op, {})
    model.graph.node.append(helper.make_node(op, ["vector", *([] if op == "Cast" else second)], ["long"], **attributes))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "at"))
    return model


def split_parts(parts: int) -> onnx.ModelProto:
    """A sequence of very many parts, of which one is taken."""
    model = _chain(
        [
            helper.make_node("Expand", ["t0", "wide"], ["t1"]),
            helper.make_node("SplitToSequence", ["t1"], ["s"], axis=0, keepdims=1),
            helper.make_node("SequenceAt", ["s", "at"], ["t2"]),
        ],
        "t0",
        "t2",
    )
    model.graph.initializer.append(numpy_helper.from_array(np.array([parts, 4, 6, 6]), "wide"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0), "at"))
    return model


def patterned_reshape(a: int, b: int) -> onnx.ModelProto:
    """Axes of an enormous number of positions that are all enumerated, if someone does enumerate them."""
    model = _chain(
        [
            helper.make_node("GlobalAveragePool", ["t0"], ["small"]),
            helper.make_node("Expand", ["small", "wide"], ["t1"]),
            helper.make_node("Reshape", ["t1", "lined"], ["t2"]),
            helper.make_node("Slice", ["t2", "from", "to", "axis"], ["t3"]),
        ],
        "t0",
        "t3",
    )
    numbers = {"wide": [1, 4, a, b], "lined": [1, 4, a * b, 1], "from": [0], "to": [7], "axis": [2]}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in numbers.items())
    return model


DEEP_JSON = "[" * 100_000
LONE_SURROGATE = json.dumps(["\ud800", *"bcde"])

MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "long chain": lambda: chain("Relu", 3_000),
    "very many paths": lambda: chain("Add", 3_000, twice=True),
    "long chain without a rule": lambda: chain("Unheard", 3_000, domain="own"),
    "ladder": lambda: ladder(5_000),
    "Tile of hidden size": lambda: hidden_size("Tile"),
    "Expand of hidden size": lambda: hidden_size("Expand"),
    "ConstantOfShape of hidden size": lambda: hidden_size("ConstantOfShape"),
    "Einsum without end": lambda: folded(
        "Einsum", {f"e{i}": np.ones(4096, np.float32) for i in range(4)}, equation="a,b,c,d->"
    ),
    "small Einsum without end": lambda: folded(
        "Einsum",
        {f"e{i}": np.ones(10, np.float32) for i in range(20)},
        equation=",".join("abcdefghijklmnopqrst") + "->",
    ),
    "boxes without end": lambda: folded(
        "NonMaxSuppression",
        {
            "boxes": np.random.default_rng(0).random((1, 2000, 4), dtype=np.float32),
            "scores": np.ones((1, 4, 2000), np.float32),
            "most": np.array(5000),
        },
    ),
    "Conv without end": lambda: folded(
        "Conv", {"cx": np.ones((1, 1, 90, 90), np.float32), "cw": np.ones((1, 1, 45, 45), np.float32)}
    ),
    "Resize of many steps": lambda: folded(
        "Resize",
        {
            "rx": np.ones((1, 1, 8, 8), np.float32),
            "": np.ones(0, np.float32),
            "rs": np.array([1, 1, 30, 30], np.float32),
        },
        mode="cubic",
    ),
    "doubling text": lambda: strings(60),
    "weights stated only": stated_weights,
    "huge image": lambda: huge_image(1 << 40),
    "large image": lambda: huge_image(1 << 14),
    "huge Resize": lambda: huge_resize([1, 4, 1 << 40, 1 << 40]),
    "large Resize": lambda: huge_resize([1, 4, 1 << 14, 1 << 14]),
    "negative Resize": lambda: huge_resize([-1, -4, -6, 0]),
    "nested If": lambda: nested_if(20),
    "recursive function": recursive_function,
    "function that calls itself in a branch": function_in_function_body,
    "function tower": lambda: function_tower(30, 4),
    "deep functions": lambda: deep_functions(3_000),
    "name of a megabyte": lambda: named("x" * 1_000_000),
    "name of many words": lambda: named("x " * 500_000),
    "name full of control characters": lambda: named(ESCAPED_NAME),
    "metadata that is deep": lambda: with_metadata(onnx_xcam=DEEP_JSON),
    "labels that are deep": lambda: with_metadata(names=DEEP_JSON, labels="(" * 100_000, classes="-" * 100_000 + "1"),
    "stated labels that are deep": lambda: with_metadata(**{"onnx_xcam.labels": DEEP_JSON}),
    "lone surrogates": lambda: with_metadata(**{"onnx_xcam.labels": LONE_SURROGATE}),
    "deep preprocessing": lambda: with_metadata(**{"onnx_xcam.preprocess": '{"size":' + "[" * 5000 + "]" * 5000 + "}"}),
    "deep scopes": lambda: scoped("[" * 150 + "]" * 150),
    "scopes of many signs": lambda: scoped("-" * 50_000 + "1"),
    "scopes of another kind": lambda: scoped("[[['a', {}]], 5, ()]"),
    **{
        f"{op} of a very long vector": functools.partial(long_vectors, op) for op in ("Add", "Cast", "Concat", "Gather")
    },
    "very many axes": lambda: ranks(5_000),
    "very many parts": lambda: split_parts(1 << 40),
    "many parts": lambda: split_parts(50_000),
    "very many positions": lambda: patterned_reshape(1 << 20, 1 << 20),
    "many positions": lambda: patterned_reshape(1 << 12, 1 << 12),
}

HUGE_MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "huge chain": lambda: chain("Relu", 20_000),
    "huge chain of sums": lambda: chain("Add", 20_000, twice=True),
    "paths without number": lambda: chain("Add", 60_000, twice=True),
    "huge chain without a rule": lambda: chain("Unheard", 20_000, domain="own"),
    "wide": lambda: wide(20_000),
    "dead nodes": lambda: dead(100_000),
    "dead constants": lambda: dead_constants(20_000),
}
"""These take long: some ten seconds each."""
