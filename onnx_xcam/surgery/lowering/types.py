"""Shapes and element types of the tensors of a model that is being lowered.

A lowering may need the rank of what it turns, or the element type of what it adds a number to. The file may say it; if
not, what has been lowered so far is standard, so that onnx's shape inference finds it.
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
"""Operators whose result is not of the type of their first input, as far as lowerings use them."""


class Types:
    """What is known of a model's tensors; more of it as the nodes before them are lowered.

    Args:
        model: the model; weights may be without their values.
        lowered: the nodes that are lowered already, in order. The caller goes on adding to it.
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
        """Dimensions of a tensor (numbers, symbols, None), None if even the rank is unknown."""
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
        """Element type of a tensor, as onnx numbers them; that of a float where it is not known."""
        if name not in self._known:
            self._look_further()
        return self._known[name].elem_type if name in self._known else int(TensorProto.FLOAT)

    def note(self, node: onnx.NodeProto) -> None:
        """Note the element type of what a lowering adds, which costs less than to infer it."""
        if node.op_type in _OWN_TYPE:
            return
        element = self.element(node.input[0])
        for name in node.output:
            self._known.setdefault(name, TypeProto.Tensor(elem_type=element))

    def _has_shape(self, name: str) -> bool:
        return name in self._known and self._known[name].HasField("shape")

    def _add(self, values: Sequence[onnx.ValueInfoProto]) -> None:
        for value in values:
            kind = value.type.tensor_type
            if kind.elem_type and not self._has_shape(value.name):
                self._known[value.name] = kind

    def _look_further(self) -> None:
        """Infer what follows from the nodes that were lowered since the last time, of what is known before them."""
        start, self._looked_at = self._looked_at, len(self._lowered)
        if start < self._looked_at:
            self._infer(self._lowered[start:])

    def _infer(self, nodes: Sequence[onnx.NodeProto]) -> None:
        """Infer the types behind some nodes, as far as they follow from the nodes and from what is known."""
        read = dict.fromkeys(name for node in nodes for name in node.input if name in self._known)
        made = {name for node in nodes for name in node.output}
        part = onnx.GraphProto(name="part", node=nodes)
        part.initializer.extend(self._constants[name] for name in read if name in self._constants)
        for name in read:
            value = (part.value_info if name in made else part.input).add(name=name)
            value.type.tensor_type.CopyFrom(self._known[name])
        model = onnx.ModelProto(graph=part, opset_import=self._model.opset_import, ir_version=self._model.ir_version)
        try:
            found = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return  # what is wrong with it is said of the whole model, later
        self._add(found.graph.value_info)


def _of(tensor: TensorProto) -> TypeProto.Tensor:
    kind = onnx.helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims)).tensor_type
    assert isinstance(kind, TypeProto.Tensor)
    return kind
