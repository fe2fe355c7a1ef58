"""What the fuzzer's mutators pick from: odd numbers, names, arrays, tensors, attributes."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

NUMBERS = (0, 1, -1, 2, 3, 7, 255, 256, 65536, 2**31 - 1, 2**31, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63))
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, float("inf"), float("-inf"), float("nan"))
NAMES = (
    "",
    "a",
    "image",
    "logits",
    "xcam_class",
    "xcam_map",
    "x" * 2000,
    "a/b\\..",
    "\x1b[31m",
    "\u202e",
    "\n",
    "\x00",
    "é\u0301",
)
TEXTS = (
    "",
    "NOTSET",
    "SAME_UPPER",
    "VALID",
    "linear",
    "cubic",
    "nearest",
    "sum",
    "none",
    "ab,bc->ac",
    "...i,j->ij",
    "->",
    "max",
    "add",
    "\ud7ff",
)
DOMAINS = ("", "ai.onnx", "com.microsoft", "ai.onnx.ml", "own", "ai.onnx.training", "pkg.onnxscript.torch_lib")
JSONS = (
    "",
    "null",
    "[]",
    "{}",
    "5",
    '"x"',
    "[1,2",
    "{'a': 1}",
    "[" * 3000,
    '{"labels": 5}',
    '{"labels": [[[]]]}',
    '{"preprocess": []}',
    '{"version": 1, "layers": 5, "layouts": {}, "score": []}',
    '{"layers": ["a"], "score": "logits", "layouts": ["XYZ"], "grids": [[1]]}',
    '{"layers": [null], "layouts": [null], "score": null, "notes": 5, "class_count": -3}',
    '{"preprocess": {"size": -1, "mean": "x"}}',
    '{"labels": ["\\ud800", "b", "c", "d", "e"]}',
    "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e'}",
    "{0: 'a', 0: ['b']}",
    "a,b,c,d,e",
    "a\nb\nc",
    '{"labels": ["\\u001b[31m", "\\u0000", "..", "CON", "<b>"]}',
    '{"notes": [5, null, {}], "layers": ["a"], "layouts": ["NCHW"], "score": "logits"}',
)


def any_node(random: Random, model: onnx.ModelProto) -> onnx.NodeProto:
    nodes = list(model.graph.node)
    for node in list(nodes):
        nodes += [inner for a in node.attribute for g in (a.g, *a.graphs) for inner in g.node]
    nodes += [node for function in model.functions for node in function.node]
    return random.choice(nodes)


def all_names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    found = [name for node in graph.node for name in (*node.input, *node.output)]
    return [*found, *(t.name for t in graph.initializer), *(v.name for v in graph.input), *NAMES]


@cache
def ops() -> tuple[str, ...]:
    return tuple(sorted({schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}))


@cache
def ops_of(count: int) -> tuple[str, ...]:
    """The operators that take so many inputs."""
    fitting = (op for op in ops() if onnx.defs.has(op, 17))
    schemas = ((op, onnx.defs.get_schema(op, 17)) for op in fitting)
    return tuple(op for op, schema in schemas if schema.min_input <= count <= schema.max_input) or ops()


def number(random: Random) -> int:
    return random.choice((*NUMBERS, random.randrange(-8, 16), random.randrange(-8, 16), random.randrange(1000)))


def array(random: Random) -> np.ndarray[Any, Any]:
    dtype = random.choice((np.float32, np.int64, np.int32, np.float16, np.float64, np.uint8, np.int8, np.bool_))
    shape = [random.choice((0, 1, 1, 2, 3, 4, 6)) for _ in range(random.choice((0, 1, 1, 1, 2, 4, 4, 5)))]
    values = [
        random.choice((*FLOATS, 2.0, 5.0)) if np.issubdtype(dtype, np.floating) else number(random)
        for _ in range(int(np.prod(shape)))
    ]
    with np.errstate(all="ignore"):
        info = None if np.issubdtype(dtype, np.floating) or dtype is np.bool_ else np.iinfo(dtype)
        fitting = [min(max(v, info.min), info.max) for v in values] if info is not None else values
        return np.array(fitting).astype(dtype).reshape(shape)


def tensor_named(random: Random, name: str = "") -> onnx.TensorProto:
    tensor = numpy_helper.from_array(array(random), name)
    spoil_tensor(random, tensor)
    return tensor


def spoil_tensor(random: Random, tensor: onnx.TensorProto) -> None:
    how = random.randrange(12)
    if how == 0:
        tensor.raw_data = random.randbytes(random.randrange(40))
    elif how == 1:
        tensor.data_type = random.choice((*range(-1, 30), 1000))
    elif how == 2:
        tensor.dims.append(number(random))
    elif how == 3 and tensor.dims:
        tensor.dims[random.randrange(len(tensor.dims))] = number(random)
    elif how == 4:
        tensor.data_location = TensorProto.EXTERNAL
        for key, values in (
            ("location", ("", "x.bin", "../x", "/etc/passwd")),
            ("offset", ("0", "-1", "x", "9" * 30)),
            ("length", ("0", "-5", "y")),
        ):
            if random.random() < 0.7:
                tensor.external_data.add(key=key, value=random.choice(values))
    elif how == 5:
        tensor.ClearField("raw_data")
        tensor.float_data.extend(random.choice(FLOATS) for _ in range(random.randrange(5)))
    elif how == 6:
        tensor.string_data.append(random.randbytes(3))
    elif how == 7:
        tensor.segment.begin = number(random)


def attribute_named(random: Random, name: str) -> onnx.AttributeProto:
    how = random.randrange(11)
    made = AttributeProto(name=name)
    if how <= 2:
        made.type, made.i = AttributeProto.INT, number(random)
    elif how <= 5:
        made.type = AttributeProto.INTS
        made.ints.extend(number(random) for _ in range(random.choice((0, 1, 2, 2, 4, 4, 8))))
    elif how == 6:
        made.type, made.f = AttributeProto.FLOAT, random.choice(FLOATS)
    elif how == 7:
        made.type, made.s = AttributeProto.STRING, random.choice(TEXTS).encode("utf-8", "replace")
    elif how == 8:
        made.type = AttributeProto.TENSOR
        made.t.CopyFrom(tensor_named(random))
    elif how == 9:
        made.type = AttributeProto.STRINGS
        made.strings.extend([b"a", b"\xff"])
    else:
        made.type = random.choice((*range(15), 99)) if random.random() < 0.5 else AttributeProto.SPARSE_TENSOR
    return made
