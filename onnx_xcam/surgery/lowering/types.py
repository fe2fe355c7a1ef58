"""This module gives shapes and element types of the tensors of a model that is being lowered.

A lowering may need the rank of a tensor that it transposes, or the element type of one to which it adds a number. Where
the file does not give them, onnx's shape inference finds them: all nodes that were lowered so far are standard ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, TypeProto

from onnx_xcam.surgery.ir.dims import Shape

_OWN_TYPE = frozenset(
    {
        "Constant",
        "ConstantOfShape",
        "Cast",
        "Shape",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "Where",
    }
)
"""The operators that lowerings emit with an output of another element type than their first input."""


class Types:
    """A Types object gives what is known of a model's tensors: more and more, as the nodes before them are lowered.

    Args:
        model: the model; weights may be without their values.
        lowered: the nodes that are lowered already, in order; the caller goes on appending to this list.
    """

    def __init__(self, model: onnx.ModelProto, lowered: Sequence[onnx.NodeProto]) -> None:
        graph = model.graph
        self._model = model
        self._lowered = lowered
        self._looked_at = self._wholly = 0
        self._constants = {t.name: t for t in graph.initializer if t.data_location != TensorProto.EXTERNAL}
        self._known: dict[str, TypeProto.Tensor] = {}
        for tensor in graph.initializer:
            self._known[tensor.name] = _of(tensor)
        self._add([*graph.input, *graph.value_info, *graph.output])

    def shape(self, name: str) -> Shape | None:
        """Return the dimensions of a tensor (numbers, symbols, None), None if even the rank is unknown."""
        if not self._has_shape(name):
            self._look_further()
        if not self._has_shape(name) and self._wholly < len(self._lowered):
            self._wholly = len(self._lowered)
            self._infer(self._lowered)
        if not self._has_shape(name):
            return None
        dims = self._known[name].shape.dim
        return tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None for dim in dims)

    def element(self, name: str) -> int:
        """Return the element type of a tensor, as onnx numbers them; FLOAT where it is not known."""
        if name not in self._known:
            self._look_further()
        return self._known[name].elem_type if name in self._known else int(TensorProto.FLOAT)

    def note(self, node: onnx.NodeProto) -> None:
        """Note the element types of the outputs of an added node, which costs less than to infer them."""
        if node.op_type in _OWN_TYPE:
            return
        element = self.element(node.input[0])
        for name in node.output:
            self._known.setdefault(name, TypeProto.Tensor(elem_type=element))

    def _has_shape(self, name: str) -> bool:
        """Tell whether the rank of a tensor is known."""
        return name in self._known and self._known[name].HasField("shape")

    def _add(self, values: Sequence[onnx.ValueInfoProto]) -> None:
        """Note these types, except for tensors that have a known shape already."""
        for value in values:
            kind = value.type.tensor_type
            if kind.elem_type and not self._has_shape(value.name):
                self._known[value.name] = kind

    def _look_further(self) -> None:
        """Infer the types behind the nodes that were lowered since the last call."""
        start, self._looked_at = self._looked_at, len(self._lowered)
        if start < self._looked_at:
            self._infer(self._lowered[start:])

    def _infer(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Infer the types of the outputs of these nodes, as far as they follow from the types known so far."""
        read = dict.fromkeys(name for node in nodes for name in node.input if name in self._known)
        made = {name for node in nodes for name in node.output}
        part = onnx.GraphProto(name="part", node=nodes)
        part.initializer.extend(self._constants[name] for name in read if name in self._constants)
        for name in read:
            value = (part.value_info if name in made else part.input).add(name=name)
            value.type.tensor_type.CopyFrom(self._known[name])
        model = onnx.ModelProto(graph=part, opset_import=self._model.opset_import, ir_version=self._model.ir_version)
        try:
            inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return  # a later check of the whole model reports what is wrong
        self._add(inferred.graph.value_info)


def _of(tensor: TensorProto) -> TypeProto.Tensor:
    """Return the type of a stored tensor."""
    kind = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)).tensor_type
    assert isinstance(kind, TypeProto.Tensor)
    return kind
