"""This module finds the products of 8-bit integers that ONNX Runtime computes, in whatever form a model is quantised.

They are found by their operators and by the types of their factors, on the graph as it is, without reading weights.
What is not known, such as the type of a tensor, is taken for the worse case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from onnx_xcam.surgery.analysis.reachability import walk_forward
from onnx_xcam.surgery.ir.op_facts import OpTraits
from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.protos import subgraphs
from onnx_xcam.surgery.ir.uses import Uses

SAFE = 64
"""Integers of at most this magnitude, 7 bits, never saturate: 2 x 255 x 64 < 2^15. ONNX Runtime has the same bound."""


@dataclass(frozen=True)
class Product:
    """A Product says how integers are multiplied.

    Attributes:
        op: an operator on integers, or the float operator (Conv, MatMul, Gemm) between quantisers.
        signed: whether the first factor, the activations, is int8; else it is uint8.
        weights: the type of the second factor: "int8", "uint8", or "float" where ONNX Runtime itself quantises it to
            int8.
        stored: whether the second factor is stored in the model; else it is computed.
        opset: the opset of the standard operators.
        domain: the operator's domain; "" is the standard.
    """

    op: str
    signed: bool
    weights: str
    stored: bool
    opset: int
    domain: str = ""


_NAMES: dict[int, str] = {TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}
"""This table maps the 8-bit integer types to their names."""
_BITS8 = frozenset(_NAMES)


def products(model: onnx.ModelProto) -> dict[Product, set[str]]:
    """Return the kinds of products of 8-bit integers in a model, each with the stored integers that are second factors.

    Args:
        model: the model, with or without its large weights.
    """
    opset = max(1, next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1))
    kinds: dict[Product, set[str]] = {}
    for nodes, initializers, inputs in _parts(model):
        part = _Part(nodes, initializers, inputs)
        for node in nodes:
            for product, name in part.product(node, opset):
                kinds.setdefault(product, set()).update({name} if name else ())
    return kinds


def beyond_seven_bits(model: onnx.ModelProto, names: Set[str]) -> bool:
    """Tell whether one of some stored tensors holds integers of more than 7 bits, so that products may saturate.

    Args:
        model: the model, with these weights.
        names: the tensors.
    """
    for _, initializers, _ in _parts(model):
        for name in initializers.keys() & names:
            try:
                values = numpy_helper.to_array(initializers[name])
            except (ValueError, TypeError):  # damaged, which loading the model reports
                return True
            if values.dtype != np.int8 or (values.size and max(-int(values.min()), int(values.max())) > SAFE):
                return True
    return False


def _parts(
    model: onnx.ModelProto,
) -> Iterator[tuple[list[onnx.NodeProto], dict[str, TensorProto], dict[str, int]]]:
    """Yield nodes, stored tensors and input types of the graph, of each subgraph and of each local function."""
    graphs = [model.graph]
    for function in model.functions:
        yield list(function.node), {}, {}
        graphs += [g for node in function.node for g in subgraphs(node)]
    while graphs:
        graph = graphs.pop()
        graphs += [g for node in graph.node for g in subgraphs(node)]
        types = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
        yield list(graph.node), {tensor.name: tensor for tensor in graph.initializer}, types


def _is_passed(op: OpTraits) -> bool:
    """Tell whether quantisers are passed through an operator."""
    return op.passes_quantisers


def _is_passed_or_left(op: OpTraits) -> bool:
    """Tell whether quantisers are passed through an operator, or it is left to a quantiser behind it."""
    return op.passes_quantisers or op.left_to_quantiser


def _leaves_stored(op: OpTraits) -> bool:
    """Tell whether weights that pass an operator still count as stored, as those that the graph quantises do."""
    return _is_passed_or_left(op) or op.quantises_as_told


class _Part:
    """A _Part is the main graph, a subgraph or a local function, with its known types and stored tensors."""

    def __init__(
        self, nodes: list[onnx.NodeProto], initializers: dict[str, TensorProto], inputs: dict[str, int]
    ) -> None:
        self.stored = dict(initializers)
        self.types = {**inputs, **{name: tensor.data_type for name, tensor in initializers.items()}}
        self.uses = Uses(nodes)
        self.maker = {name: nodes[position] for name, position in self.uses.maker.items()}
        for node in nodes:
            if node.op_type == "Constant":
                for attribute in node.attribute:
                    if attribute.name == "value":
                        self.stored[node.output[0]] = attribute.t
                        self.types[node.output[0]] = attribute.t.data_type

    def product(self, node: onnx.NodeProto, opset: int) -> Iterator[tuple[Product, str | None]]:
        """Yield the products that a node computes, each with the name of its second factor if that is stored.

        A node that multiplies no 8-bit integers yields nothing. One with a factor of unknown type yields every
        possibility.
        """
        standard = node.domain in ("", "ai.onnx")
        domain = "" if standard else node.domain
        facts = proto_traits(node)
        places = facts.factors
        if places and len(node.input) > places.second:
            first = self._type(node, places.first, places.first_zero) if places.first_zero >= 0 else TensorProto.UINT8
            second = self._type(node, places.second, places.second_zero)
            name = self._stored_behind(node.input[places.second])
            for signed in self._either(first):
                for unsigned in self._either(second):
                    kind = "int8" if unsigned else "uint8"
                    yield Product(node.op_type, signed, kind, name is not None, opset, domain), name
        elif facts.runs_on_integers and len(node.input) > 1:
            yield from self._between(node, opset)

    def _between(self, node: onnx.NodeProto, opset: int) -> Iterator[tuple[Product, str | None]]:
        """Yield the products of a float operator between quantisers, which ONNX Runtime computes on integers."""
        first, second = (self._dequantiser(node.input[index]) for index in (0, 1))
        if first is None or (node.op_type == "Conv" and not self._is_quantised_next(node.output[0])):
            return
        one = self._type(first, 0, 2)
        if one is not None and one not in _BITS8:
            return
        if second is None:
            # ONNX Runtime itself quantises the float weights of a Conv or Gemm if the result is quantised.
            floats = node.input[1] in self.stored and node.op_type != "MatMul"
            kinds, name = (["float"] if floats and self._is_quantised_next(node.output[0]) else []), None
        else:
            other = self._type(second, 0, 2)
            kinds = [_NAMES[other]] if other in _NAMES else ["int8"] if other is None else []
            name = self._stored_behind(second.input[0])
        stored = second is None or name is not None or self._is_constant(second.input[0])
        for kind in kinds:
            for signed in self._either(one):
                yield Product(node.op_type, signed, kind, stored, opset), name

    @staticmethod
    def _either(kind: int | None) -> list[bool]:
        """Return whether a type is signed, as a list; both answers if the type is not known."""
        return [False, True] if kind is None else [kind == TensorProto.INT8]

    def _type(self, node: onnx.NodeProto, place: int, zero: int) -> int | None:
        """Return the type of an input, from itself, its zero point or its producer; None if nothing shows it."""
        for index in (place, zero):
            name = node.input[index] if index < len(node.input) else ""
            if name and (kind := self._type_of(name)) is not None:
                return kind
        return None

    def _type_of(self, name: str) -> int | None:
        """Return the type of a tensor, from itself or from the quantiser that makes it; None if nothing shows it."""
        name = self._origin(name, _is_passed_or_left)
        node = self.maker.get(name)
        if self.types.get(name) or node is None:
            return self.types.get(name) or None
        facts = proto_traits(node)
        if facts.quantises and facts.scaled_by_run:
            return TensorProto.UINT8
        if not facts.quantises:
            return None
        if len(node.input) > 2 and node.input[2]:
            return self.types.get(node.input[2]) or None
        return next((a.i for a in node.attribute if a.name == "output_dtype"), 0) or TensorProto.UINT8

    def _dequantiser(self, name: str) -> onnx.NodeProto | None:
        """Return the DequantizeLinear that makes a float, before operators that only move it; None if there is none."""
        node = self.maker.get(self._origin(name, _is_passed))
        return node if node is not None and proto_traits(node).dequantises else None

    def _stored_behind(self, name: str) -> str | None:
        """Return the stored tensor that a value is, moved at most; None if it is computed, even from stored floats."""
        name = self._origin(name, _is_passed)
        return name if name in self.stored else None

    def _is_constant(self, name: str) -> bool:
        """Tell whether a value is made of stored ones alone, as weights are that the graph quantises."""
        return self._origin(name, _leaves_stored) in self.stored

    def _origin(self, name: str, passes: Callable[[OpTraits], bool]) -> str:
        """Return what a tensor was before some operators: the first one that they do not make, or that is stored."""
        for _ in range(len(self.maker)):
            node = self.maker.get(name)
            if name in self.stored or node is None or not passes(proto_traits(node)) or not node.input:
                break
            name = node.input[0]
        return name

    def _is_quantised_next(self, name: str) -> bool:
        """Tell whether a tensor is quantised next, apart from operators that are left to the quantiser."""
        passed = walk_forward(self.uses, [name], leaves=lambda node, _: proto_traits(node).left_to_quantiser)
        return any(proto_traits(self.uses.nodes[position]).quantises_as_told for position in passed)
