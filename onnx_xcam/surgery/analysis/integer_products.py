"""The products of 8-bit integers that ONNX Runtime computes in a model, whatever form it is quantised in.

They are found by their operators and by the types of what they multiply, on the graph as it stands, no weights read.
What is not known (the type of a tensor that nothing tells) is taken for what is worse.
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
"""Integers of this size at most, 7 bits, never saturate: 2 x 255 x 64 < 2^15. ONNX Runtime has the same bound."""


@dataclass(frozen=True)
class Product:
    """How integers are multiplied.

    Attributes:
        op: an operator on integers, or the float operator (Conv, MatMul, Gemm) between quantisers.
        signed: whether the first factor, the activations, is int8; else uint8.
        weights: the second factor: "int8", "uint8", or "float" where ONNX Runtime itself makes int8 of them.
        stored: whether the second factor is stored in the model; else it is computed.
        opset: of the standard operators.
        domain: of the operator; "" is the standard.
    """

    op: str
    signed: bool
    weights: str
    stored: bool
    opset: int
    domain: str = ""


_NAMES: dict[int, str] = {TensorProto.INT8: "int8", TensorProto.UINT8: "uint8"}
_BITS8 = frozenset(_NAMES)


def products(model: onnx.ModelProto) -> dict[Product, set[str]]:
    """The kinds of products of 8-bit integers in a model, each with the stored integers that are its second factor.

    Args:
        model: with or without its large weights.
    """
    opset = max(1, next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1))
    found: dict[Product, set[str]] = {}
    for nodes, initializers, inputs in _parts(model):
        part = _Part(nodes, initializers, inputs)
        for node in nodes:
            for product, name in part.product(node, opset):
                found.setdefault(product, set()).update({name} if name else ())
    return found


def beyond_seven_bits(model: onnx.ModelProto, names: Set[str]) -> bool:
    """Whether one of some stored tensors holds other integers than those of 7 bits, whose products never saturate.

    Args:
        model: with these weights.
        names: the tensors.
    """
    for _, initializers, _ in _parts(model):
        for name in initializers.keys() & names:
            try:
                values = numpy_helper.to_array(initializers[name])
            except (ValueError, TypeError):  # damaged: told when the model is loaded
                return True
            if values.dtype != np.int8 or (values.size and max(-int(values.min()), int(values.max())) > SAFE):
                return True
    return False


def _parts(
    model: onnx.ModelProto,
) -> Iterator[tuple[list[onnx.NodeProto], dict[str, TensorProto], dict[str, int]]]:
    """The nodes, the stored tensors and the types of the inputs of the graph, of those inside it, and of functions."""
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
    return op.passes_quantisers


def _is_passed_or_left(op: OpTraits) -> bool:
    return op.passes_quantisers or op.left_to_quantiser


def _leaves_stored(op: OpTraits) -> bool:
    return _is_passed_or_left(op) or op.quantises_as_told


class _Part:
    """A graph, or a function."""

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
        """The product that a node is, and the stored integers that are its second factor; nothing for other nodes."""
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
        first, second = (self._dequantiser(node.input[index]) for index in (0, 1))
        if first is None or (node.op_type == "Conv" and not self._is_quantised_next(node.output[0])):
            return
        one = self._type(first, 0, 2)
        if one is not None and one not in _BITS8:
            return
        if second is None:
            # Of a Conv or Gemm whose result is quantised, ONNX Runtime quantises float weights itself.
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
        """Whether a type is signed; both where it is not known."""
        return [False, True] if kind is None else [kind == TensorProto.INT8]

    def _type(self, node: onnx.NodeProto, place: int, zero: int) -> int | None:
        """The type of an input, told by itself, by its zero point, or by what makes it; None if nothing tells it."""
        for index in (place, zero):
            name = node.input[index] if index < len(node.input) else ""
            if name and (kind := self._type_of(name)) is not None:
                return kind
        return None

    def _type_of(self, name: str) -> int | None:
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
        """The DequantizeLinear that a float comes out of, moved at most."""
        node = self.maker.get(self._origin(name, _is_passed))
        return node if node is not None and proto_traits(node).dequantises else None

    def _stored_behind(self, name: str) -> str | None:
        """The stored tensor that a value is, moved at most; None if it is computed, from stored floats as well."""
        name = self._origin(name, _is_passed)
        return name if name in self.stored else None

    def _is_constant(self, name: str) -> bool:
        """Whether a value is made of stored ones alone, as weights that are quantised in the graph."""
        return self._origin(name, _leaves_stored) in self.stored

    def _origin(self, name: str, passes: Callable[[OpTraits], bool]) -> str:
        """What a tensor was before some operators: the first one that they do not make, or that is stored."""
        for _ in range(len(self.maker)):
            node = self.maker.get(name)
            if name in self.stored or node is None or not passes(proto_traits(node)) or not node.input:
                break
            name = node.input[0]
        return name

    def _is_quantised_next(self, name: str) -> bool:
        passed = walk_forward(self.uses, [name], leaves=lambda node, _: proto_traits(node).left_to_quantiser)
        return any(proto_traits(self.uses.nodes[position]).quantises_as_told for position in passed)
