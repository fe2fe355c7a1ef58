"""This module reads the constants of a model that is being lowered, as far as the file holds their values."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

_SCALES = 1 << 12
"""The largest number of elements that a scale or a zero point may have to be compared by its values."""


def stored_tensors(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Return the tensors that the file holds, by name: initializers, tensors of Constant nodes, and copies of these."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            tensors[node.output[0]] = node.attribute[0].t
        elif node.op_type == "Identity" and node.input[0] in tensors:
            tensors[node.output[0]] = tensors[node.input[0]]
    return tensors


class Constants:
    """A Constants object gives the constants of a graph by name, and compares small ones by content."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._tensors = stored_tensors(graph)
        self._contents: dict[str, str | bytes] = {}

    def element(self, name: str) -> int:
        """Return the element type of a constant, as onnx numbers them; 0 (undefined) for other tensors."""
        return int(self._tensors[name].data_type) if name in self._tensors else 0

    def value(self, name: str) -> np.ndarray | None:
        """Return the value of a constant, None for other tensors and where the values lie in another file."""
        tensor = self._tensors.get(name)
        if tensor is None or tensor.data_location == onnx.TensorProto.EXTERNAL:
            return None
        return numpy_helper.to_array(tensor)

    def content(self, name: str) -> str | bytes:
        """Return a key that is equal for scales or zero points with equal type, shape and values.

        For a tensor that is no constant, or a large one, the key is its name.
        """
        if name not in self._contents:
            tensor = self._tensors.get(name)
            small = tensor is not None and math.prod(tensor.dims) <= _SCALES
            self._contents[name] = _unnamed(tensor) if tensor is not None and small else name
        return self._contents[name]


def _unnamed(tensor: onnx.TensorProto) -> bytes:
    """Return the serialised tensor without its name."""
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    copy.ClearField("name")
    content: bytes = copy.SerializeToString()
    return content
