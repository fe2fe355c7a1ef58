"""The bare vector-Jacobian product of a model, for checking rules: `Jᵀ gy` for a given `gy`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.autodiff.backward import gradients
from onnx_xcam.surgery.builder.broadcasting import expanded
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.forward_values import forward_value
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.graph import Graph

COTANGENT = "xcam_gy"
"""Prefix of the added inputs: `xcam_gy_0` is the gradient of the first output, `[K, *y.shape]`."""

GRADIENT = "xcam_gx"
"""Prefix of the outputs: `xcam_gx_0` is the gradient of the first tensor asked for, `[K, *x.shape]`."""


def new_emitter(graph: Graph, inputs: Sequence[str] | None = None) -> Emitter:
    """An emitter for a tail of the graph: names that do not clash, symbols of the graph's inputs known.

    Args:
        graph: the model.
        inputs: those whose sizes may be read; all by default. Of an input that plays no part any size may be fed.
    """
    emitter = Emitter(graph.opset, graph.tensors.__contains__)
    for name in graph.input_names if inputs is None else inputs:
        shape = graph.shape(name)
        if shape is not None and not graph.is_constant(name):
            emitter.input(name, graph.dtype(name), shape)
    return emitter


def vjp_model(model: onnx.ModelProto, wrt: Sequence[str], outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """A model that takes the inputs of `model` and `gy` for its outputs, and gives the gradients of `wrt`.

    Args:
        model: any model; it is not changed.
        wrt: names of tensors, the last of their kind on the way to the outputs or not.
        outputs: names of the float outputs to start from; all of them by default.

    Returns:
        The forward model with the inputs `xcam_gy_i` `[K, *outputs[i].shape]` and only the outputs `xcam_gx_j`
        `[K, *wrt[j].shape]`.

    Raises:
        UnsupportedOpError: an operator has no rule for what is asked of it.
    """
    skeleton = onnx.ModelProto()
    skeleton.CopyFrom(model)
    graph = prepare(skeleton)
    emitter = new_emitter(graph)
    names = list(outputs) if outputs is not None else [n for n in graph.output_names if graph.is_float(n)]
    number = np.float64 if any(graph.dtype(name) == np.float64 for name in wrt) else np.float32
    seeds, feeds = {}, []
    for index, name in enumerate(names):
        y = forward_value(graph, emitter, name, "The product")
        gy = emitter.input(f"{COTANGENT}_{index}", y.dtype if y.dtype.kind == "f" else number, ("K", *y.shape))
        feeds.append(gy)
        seeds[name] = gy
    made: list[Value] = []
    found = gradients(graph, emitter, seeds, wrt)
    for index, name in enumerate(wrt):
        x = forward_value(graph, emitter, name, "The product")
        made.append(emitter.named(expanded(found[name], x), f"{GRADIENT}_{index}"))
    return _assembled(model, export(emitter, [gx.name for gx in made], model.ir_version), feeds, made)


def _assembled(
    model: onnx.ModelProto, tail: onnx.GraphProto, feeds: Sequence[Value], made: Sequence[Value]
) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.node.extend(tail.node)
    result.graph.initializer.extend(tail.initializer)
    result.graph.input.extend(tensor_info(value) for value in feeds)
    result.graph.output.extend(tensor_info(value) for value in made)
    return result


def tensor_info(value: Value) -> onnx.ValueInfoProto:
    """A graph input or output of a value's name, dtype and shape."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(value.name, kind, list(value.shape))
