"""Models with weights in other files, made by hand, so that every place and every kind of entry can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from helpers.models import GAP_WEIGHTS, C, build, cnn

PLACES = ["initializer", "constant", "unnamed constant", "branch", "branch constant", "function"]
"""Where in a model `model_with` can have the weights of its last Gemm."""

GEMM = "logits = Gemm<transB=1>(flat, fc, fb)"
POOL = "pooled = GlobalAveragePool(a)  flat = Flatten(pooled)"


def model_with(place: str) -> onnx.ModelProto:
    """`cnn("gap")` with the weights of the last Gemm in one of PLACES; the same numbers in each of them."""
    model = cnn("gap")
    if place == "initializer":
        return model
    weights = [_taken(model, name) for name in GAP_WEIGHTS]
    constants = [helper.make_node("Constant", [], [tensor.name], value=tensor) for tensor in weights]
    if place == "unnamed constant":
        for node in constants:
            node.attribute[0].t.ClearField("name")
    gemm = model.graph.node.pop()
    if place in ("constant", "unnamed constant"):
        nodes = [*constants, *model.graph.node, gemm]
    elif place == "function":
        opsets = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("my", "Head", ["flat"], ["logits"], [*constants, gemm], opsets))
        model.opset_import.append(helper.make_opsetid("my", 1))
        nodes = [*model.graph.node, helper.make_node("Head", ["flat"], ["logits"], domain="my")]
    else:
        inner = ([gemm], weights) if place == "branch" else ([*constants, gemm], [])
        gemm.output[0] = "inside"
        ends = [helper.make_tensor_value_info("inside", 1, ["N", C])]
        branch = helper.make_graph(inner[0], "then", [], ends, inner[1])
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "known"))
        node = helper.make_node("If", ["known"], ["logits"], then_branch=branch, else_branch=branch)
        nodes = [*model.graph.node, node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _taken(model: onnx.ModelProto, name: str) -> TensorProto:
    index = next(i for i, tensor in enumerate(model.graph.initializer) if tensor.name == name)
    return model.graph.initializer.pop(index)


def tensors_of(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """All float tensors of a model, wherever they are."""
    yield from (tensor for tensor in _of_graph(model.graph) if tensor.data_type == TensorProto.FLOAT)
    for function in model.functions:
        yield from (attribute.t for node in function.node for attribute in node.attribute if attribute.HasField("t"))


def _of_graph(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _of_graph(attribute.g)


def save_external(
    folder: Path, location: str = "weights.bin", model: onnx.ModelProto | None = None, *, fields: bool = True
) -> tuple[Path, onnx.ModelProto]:
    """A model with all its float weights outside; the path of the .onnx file, and the model with its weights inside.

    Args:
        folder: for `m.onnx` and the weights.
        location: of the one file, entries with offset and length; the first weights lie behind some bytes of nothing.
        model: `cnn("gap")` by default.
        fields: without them each tensor gets a file of its own, `0-<location>`, `1-<location>`, ...
    """
    whole = model or cnn("gap")
    split = onnx.ModelProto()
    split.CopyFrom(whole)
    content: dict[str, bytes] = {}
    for index, tensor in enumerate(tensors_of(split)):
        raw = numpy_helper.to_array(tensor).tobytes()
        for payload in ("raw_data", "float_data"):
            tensor.ClearField(payload)
        tensor.data_location = TensorProto.EXTERNAL
        file = location if fields else f"{index}-{location}"
        tensor.external_data.add(key="location", value=file)
        if fields:
            content[file] = content.get(file, b"nothing.") + raw
            tensor.external_data.add(key="offset", value=str(len(content[file]) - len(raw)))
            tensor.external_data.add(key="length", value=str(len(raw)))
        else:
            content[file] = raw
    for file, raw in content.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_bytes(raw)
    (folder / "m.onnx").write_bytes(split.SerializeToString())
    return folder / "m.onnx", whole


def rewrite_entries(path: Path, **fields: str | None) -> None:
    """Give the external data of the last initializer other entries; None takes one out. `location` goes to all."""
    model = onnx.ModelProto.FromString(path.read_bytes())
    outside = [tensor for tensor in tensors_of(model) if tensor.data_location == TensorProto.EXTERNAL]
    for key, value in fields.items():
        for tensor in outside if key == "location" else outside[-1:]:
            kept = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != key]
            del tensor.external_data[:]
            for name, text in [*kept, *([(key, value)] if value is not None else [])]:
                tensor.external_data.add(key=name, value=text)
    path.write_bytes(model.SerializeToString())


def model_of_size(elements: int) -> onnx.ModelProto:
    """A model with one large weight of this many floats, off the way to the score's gradient."""
    body = "c = Conv(image, w)  a = Relu(c)  p = GlobalAveragePool(a)  logits = Flatten(p)  other = ReduceSum(big)"
    weights = {"w": np.ones((C, 3, 1, 1), np.float32), "big": np.zeros(elements, np.float32)}
    return build(body, weights, outputs=f"float[N,{C}] logits, float[1] other")
