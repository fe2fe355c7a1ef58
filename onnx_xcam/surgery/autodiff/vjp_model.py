"""This module builds a model's vector-Jacobian product `Jᵀ gy` as a model of its own, to check gradient rules."""

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
"""The prefix of the added inputs: `xcam_gy_0` is the cotangent of the first output, `[K, *y.shape]`."""

GRADIENT = "xcam_gx"
"""The prefix of the outputs: `xcam_gx_0` is the gradient of the first tensor of `wrt`, `[K, *x.shape]`."""


def new_emitter(graph: Graph, inputs: Sequence[str] | None = None) -> Emitter:
    """Return an emitter for a tail of the graph: it avoids the graph's names, and reads symbolic sizes from its inputs.

    Args:
        graph: the model.
        inputs: the inputs from which sizes may be read; all by default. An input that the result does not depend on may
            be fed with any size, so its size says nothing.
    """
    taken = {*graph.tensors, *(str(node.name) for node in graph.nodes)}
    emitter = Emitter(graph.opset, taken.__contains__)
    for name in graph.input_names if inputs is None else inputs:
        shape = graph.shape(name)
        if shape is not None and not graph.is_constant(name):
            emitter.input(name, graph.dtype(name), shape)
    return emitter


def vjp_model(model: onnx.ModelProto, wrt: Sequence[str], outputs: Sequence[str] | None = None) -> onnx.ModelProto:
    """Return a model that computes the gradients of the tensors `wrt` for given cotangents of the model's outputs.

    Args:
        model: any model; it is not changed.
        wrt: the names of the tensors to differentiate with respect to; one may lie behind another.
        outputs: the names of the float outputs to start from; all float outputs by default.

    Returns:
        The model with additional inputs `xcam_gy_i` `[K, *outputs[i].shape]` and only the outputs `xcam_gx_j`
        `[K, *wrt[j].shape]`.

    Raises:
        UnsupportedOpError: an operator between `wrt` and the outputs has no gradient rule.
        LayerError: the outputs do not depend on a tensor of `wrt`.
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
    computed = gradients(graph, emitter, seeds, wrt)
    for index, name in enumerate(wrt):
        x = forward_value(graph, emitter, name, "The product")
        made.append(emitter.named(expanded(computed[name], x), f"{GRADIENT}_{index}"))
    return _assembled(model, export(emitter, [gx.name for gx in made], model.ir_version), feeds, made)


def _assembled(
    model: onnx.ModelProto, tail: onnx.GraphProto, feeds: Sequence[Value], made: Sequence[Value]
) -> onnx.ModelProto:
    """Return the model with a tail, the inputs `feeds` added, and the outputs `made` instead of its own."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.node.extend(tail.node)
    result.graph.initializer.extend(tail.initializer)
    result.graph.input.extend(tensor_info(value) for value in feeds)
    result.graph.output.extend(tensor_info(value) for value in made)
    return result


def tensor_info(value: Value) -> onnx.ValueInfoProto:
    """Return a graph input or output with a value's name, dtype and shape."""
    kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(value.name, kind, list(value.shape))
