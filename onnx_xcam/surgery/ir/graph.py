"""This module defines the Graph: the model as the surgery reads it, without changing it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.uses import Uses

FLOATS = frozenset({np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)})
"""Tensors of these types can carry a gradient."""


class Graph:
    """A Graph is an onnx_graphsurgeon graph with what the surgery asks of it, everything keyed by name.

    Attributes:
        gs: the onnx_graphsurgeon graph.
        opset: the opset of the standard operators.
        nodes: the nodes, in topological order.
        constants: known small constants: initializers, Constant nodes and what was folded from them.
        folded_bytes: the bytes of the results of folding.
        scopes: the module path that the exporter recorded, by a node's position.
        bodies: the function bodies that were asked for so far, by a node's first output.
        outer: the graph of its node, for a function body; else None.
        inner: the tensors that the model itself does not have: those inside a function body, or between the nodes that
            an operator was lowered to.
        stand_ins: inner tensors that stand for a quantised tensor of the model, each with the name of that.
        same: tensors of the model with the values of another one, which is read in their place, each with the name of
            that.
        tensors: all tensors, by name.
        input_names: the graph's inputs.
        output_names: the graph's outputs.
    """

    def __init__(
        self,
        graph: gs.Graph,
        constants: dict[str, np.ndarray],
        scopes: dict[int, str],
        *,
        inner: frozenset[str] = frozenset(),
        stand_ins: Mapping[str, str] = MappingProxyType({}),
        same: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.gs = graph
        self.opset = int(graph.opset)
        self.nodes: list[gs.Node] = list(graph.nodes)
        self.constants = constants
        self.folded_bytes = 0
        self.scopes = scopes
        self.bodies: dict[str, Graph | None] = {}
        self.outer: Graph | None = None
        self.inner = inner
        self.stand_ins = stand_ins
        self.same = same
        self.tensors: dict[str, gs.Tensor] = dict(graph.tensors())
        self.input_names = [tensor.name for tensor in graph.inputs]
        self.output_names = [tensor.name for tensor in graph.outputs]

    @cached_property
    def uses(self) -> Uses[gs.Node]:
        """Return what each node reads and makes, including the tensors that its subgraphs capture."""
        return Uses(self.nodes)

    @cached_property
    def producer(self) -> dict[str, gs.Node]:
        """Return the node that makes each tensor, by the tensor's name."""
        return {name: self.nodes[position] for name, position in self.uses.maker.items()}

    @cached_property
    def readers(self) -> dict[str, list[gs.Node]]:
        """Return the nodes that read each tensor, by the tensor's name, once for each time that they do."""
        return {name: [self.nodes[position] for position in positions] for name, positions in self.uses.readers.items()}

    @property
    def order(self) -> dict[str, int]:
        """Return the position of each tensor's producer; graph inputs and constants have none."""
        return self.uses.maker

    def shape(self, name: str) -> Shape | None:
        """Return the tensor's static shape, None if even the rank is unknown."""
        if name in self.constants:
            return self.constants[name].shape
        tensor = self.tensors.get(name)
        if tensor is None or tensor.shape is None:
            return None
        return tuple(
            d if isinstance(d, int) and d >= 0 else (d or None) if isinstance(d, str) else None for d in tensor.shape
        )

    def dtype(self, name: str) -> np.dtype[Any] | None:
        """Return the tensor's numpy dtype, None if it is unknown.

        Raises:
            ModelError: the element type does not exist.
        """
        if name in self.constants:
            return self.constants[name].dtype
        tensor = self.tensors.get(name)
        kind = None if tensor is None else tensor.dtype
        if kind is None or kind in ("", 0) or isinstance(kind, onnx.TypeProto):  # a dictionary or an optional
            return None
        if not isinstance(kind, int):
            named: np.dtype[Any] = np.dtype(kind)
            return named
        try:
            return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
        except (KeyError, TypeError) as error:
            raise ModelError(f"The tensor '{name}' has an unknown element type; the file is damaged.") from error

    def is_float(self, name: str) -> bool:
        """Tell whether a tensor can carry a gradient; a tensor of unknown type counts as one that can."""
        dtype = self.dtype(name)
        return dtype is None or dtype in FLOATS

    @cached_property
    def quantised(self) -> frozenset[str]:
        """Return the integer tensors that stand for floats: those of quantisers, and those made from them by moving."""
        names: set[str] = set()
        for node in self.nodes:
            if traits(node).quantises:
                names.add(node.outputs[0].name)
                continue
            kinds = {self.dtype(tensor.name) for tensor in node.inputs if tensor.name in names}
            names.update(out.name for out in node.outputs if out.name and self.dtype(out.name) in kinds)
        return frozenset(names)

    def public_name(self, name: str) -> str:
        """Return the name of a tensor for users: a tensor that only the analysis has stands for one of the model."""
        return self.stand_ins.get(name, name)

    def is_constant(self, name: str) -> bool:
        """Tell whether the tensor is an initializer or a known constant."""
        return name in self.constants or isinstance(self.tensors.get(name), gs.Constant)


def exported(node: gs.Node) -> onnx.NodeProto:
    """Return a node as a protobuf message."""
    proto: onnx.NodeProto = gs.exporters.onnx_exporter.OnnxExporter.export_node(node)
    return proto
