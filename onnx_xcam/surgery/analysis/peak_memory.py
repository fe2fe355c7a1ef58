"""This module estimates how much more memory a run takes where one dimension of its inputs is one longer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import helper, numpy_helper

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.analysis.prepare import LONGEST_VECTOR, prepare
from onnx_xcam.surgery.analysis.reachability import forward
from onnx_xcam.surgery.ir.dims import known_size
from onnx_xcam.surgery.ir.uses import Uses

_LENGTHS = 16
"""A vector of at most this many integers may hold lengths."""

Feeds = Mapping[str, "Sequence[int] | np.ndarray[Any, Any]"]
"""The inputs' shapes, or arrays of these shapes, by name; the values of short vectors of integers are followed."""


def bytes_more(skeleton: bytes, few: Feeds, more: Feeds) -> int | None:
    """Return how many more bytes a run with `more` has in use at its worst moment than one with `few`.

    The sizes of all tensors are inferred for both. The differences in size of those that depend on the differing inputs
    are added up node by node, from where a tensor is made to where it is last read. ONNX Runtime takes more than that:
    its arena rounds up, and some kernels copy.

    Args:
        skeleton: the model, which may lack its weights.
        few, more: what all inputs are fed.

    Returns:
        The bytes, or None if the size of a tensor that counts is not known.
    """
    differing = {name for name, fed in few.items() if _shape(fed) != _shape(more[name])}
    smaller, larger = _inferred(skeleton, few, differing), _inferred(skeleton, more, differing)
    if smaller is None or larger is None:
        return None
    before, after = _sizes(smaller), _sizes(larger)
    uses = Uses(smaller.graph.node)
    outputs = {output.name for output in smaller.graph.output}
    ending: dict[int, int] = {}
    live = most = 0
    growing = set(forward(uses, differing).positions)
    for position, node in enumerate(uses.nodes):
        # The length of a TopK's result is a value and often unknown; the result is small, since it holds scores.
        for name in uses.makes[position] if position in growing and node.op_type != "TopK" else ():
            if name not in before or name not in after:
                return None
            size = after[name] - before[name]
            live += size
            end = len(uses.nodes) if name in outputs else uses.readers.get(name, [position])[-1]
            ending[end] = ending.get(end, 0) + size
        most = max(most, live)
        live -= ending.pop(position, 0)
    return most


def _inferred(skeleton: bytes, feeds: Feeds, differing: set[str]) -> onnx.ModelProto | None:
    """Return the model with all shapes that follow from those of the inputs, or None if inference fails.

    An input that differs between the two runs loses its default.
    """
    try:
        model = onnx.ModelProto.FromString(skeleton)
        graph = model.graph
        if any(len(tensor.dims) == 1 and tensor.dims[0] > LONGEST_VECTOR for tensor in graph.initializer):
            return None
        for value in graph.input:
            if value.name in feeds:
                stated = value.type.tensor_type.shape
                del stated.dim[:]
                lengths = _shape(feeds[value.name])
                stated.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=length) for length in lengths)
        known = {name: fed for name, fed in feeds.items() if _may_be_lengths(fed)}
        plain = [value for value in graph.input if value.name not in known]
        del graph.input[:]
        graph.input.extend(plain)
        weights = [tensor for tensor in graph.initializer if tensor.name not in differing]
        weights += [numpy_helper.from_array(np.asarray(fed), name) for name, fed in known.items()]
        del graph.initializer[:]
        graph.initializer.extend(weights)
        del graph.value_info[:]
        for output in graph.output:
            output.type.tensor_type.ClearField("shape")
        return onnx.shape_inference.infer_shapes(model, data_prop=True)
    except (onnx.shape_inference.InferenceError, DecodeError, ValueError, RuntimeError):
        return None


def _may_be_lengths(fed: Sequence[int] | np.ndarray[Any, Any]) -> bool:
    """Tell whether an input is fed a short vector of int64, which may hold lengths."""
    return isinstance(fed, np.ndarray) and fed.dtype == np.int64 and fed.ndim == 1 and fed.size <= _LENGTHS


def _shape(fed: Sequence[int] | np.ndarray[Any, Any]) -> tuple[int, ...]:
    """Return the shape of what an input is fed."""
    return fed.shape if isinstance(fed, np.ndarray) else tuple(fed)


def _sizes(model: onnx.ModelProto) -> dict[str, int]:
    """Return the bytes of each tensor of known shape, by onnx's inference or by folding the computations of lengths."""
    sizes = {}
    for value in (*model.graph.value_info, *model.graph.output):
        kind = value.type.tensor_type
        dims = kind.shape.dim
        if kind.elem_type and kind.HasField("shape") and all(dim.HasField("dim_value") for dim in dims):
            width: int = helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize
            sizes[value.name] = math.prod(dim.dim_value for dim in dims) * width
    if all(name in sizes for node in model.graph.node for name in node.output if name):
        return sizes
    try:
        graph = prepare(model)
    except ModelError:
        return sizes
    for name in graph.producer:
        dtype, shape = graph.dtype(name), graph.shape(name)
        size = None if shape is None else known_size(shape)
        if dtype is not None and size is not None:
            sizes.setdefault(name, size * dtype.itemsize)
    return sizes
