"""The constants of a model that is being lowered, as far as the file holds them."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

_SCALES = 1 << 12
"""Scales and zero points have at most this many elements: one for each channel."""


def stored_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """The tensors that the file holds, by name: initializers, what Constant nodes give as a tensor, copies of these."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in found:
            found[node.output[0]] = found[node.input[0]]
    return found


class Constants:
    """The constants of a graph, by name; two that hold the same have one content, whatever their names."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = stored_tensors(graph)
        self._contents: dict[str, str | bytes] = {}

    def element(self, name: str) -> int:
        """Element type of a constant, as onnx numbers them; 0 (undefined) for what is no constant."""
        return int(self._tensors[name].data_type) if name in self._tensors else 0

    def value(self, name: str) -> np.ndarray | None:
        """The value of a constant; None for what is none, or has its values elsewhere."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

    def content(self, name: str) -> str | bytes:
        """Type, shape and values of a scale or zero point; the name of what is no constant."""
        if name not in self._contents:
            tensor = self._tensors.get(name)
            small = tensor is not None and math.prod(tensor.dims) <= _SCALES
            self._contents[name] = _unnamed(tensor) if tensor is not None and small else name
        return self._contents[name]


def _unnamed(tensor: onnx.TensorProto) -> bytes:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("name")
    content: bytes = copy.SerializeToString()
    return content
