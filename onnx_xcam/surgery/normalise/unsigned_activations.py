"""This module makes int8 activations that the tail reads uint8, as ONNX Runtime does where nobody else reads them.

On x86, ONNX Runtime runs operators on uint8 activations only. When it loads a model, it turns each QuantizeLinear of
int8 that has a DequantizeLinear as its single reader, together with that reader, into a pair of uint8: 128 is added to
the zero point, so every integer stands for the same float as before. Operators between pairs of one type then run on
integers, those between different types in float. A tail that reads the integers would be a second reader. The pair
would stay int8, other operators of the model would run on integers than without the tail, and the model's own outputs
would change. So such a pair becomes uint8 in the file, and then it may have any number of readers.

Pairs that ONNX Runtime leaves alone are left alone: those with several readers already, those that are inputs or
outputs of the model, and those without a constant zero point. A DequantizeLinear with several readers counts as
several, since ONNX Runtime gives each reader one of its own.
https://github.com/microsoft/onnxruntime/blob/main/onnxruntime/core/optimizer/qdq_transformer/qdq_s8_to_u8.cc
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.protos import MICROSOFT, is_standard
from onnx_xcam.surgery.ir.uses import names_read
from onnx_xcam.surgery.lowering.constants import Constants

_ZERO_POINT = 2
"""The zero point is the input of QuantizeLinear and DequantizeLinear at this index."""
_SHIFT = 128
"""A uint8 is the int8 of the same float plus 128."""


class Pair(NamedTuple):
    """A Pair is a QuantizeLinear, the DequantizeLinear that alone reads it, and the zero point of both."""

    quantizer: onnx.NodeProto
    dequantizer: onnx.NodeProto
    zero_point: int

    @property
    def integers(self) -> str:
        """Return the name of the tensor between the two nodes."""
        return str(self.quantizer.output[0])


def signed_pairs(model: onnx.ModelProto) -> Iterator[Pair]:
    """Yield the pairs of a model, or of its skeleton, that ONNX Runtime turns into uint8 if nothing else reads them."""
    graph = model.graph
    reads = Counter(name for node in graph.node for name in names_read(node))
    reads.update(output.name for output in graph.output)
    alone = {node.input[0]: node for node in graph.node if _is(node, "DequantizeLinear") and reads[node.output[0]] == 1}
    constants, changeable = Constants(graph), {value.name for value in graph.input}
    for node in graph.node:
        if not _is(node, "QuantizeLinear") or reads[node.output[0]] != 1 or node.output[0] not in alone:
            continue
        reader = alone[node.output[0]]
        zero_points = {_zero_point(one, constants) for one in (node, reader)}
        known = changeable.isdisjoint((node.input[-1], reader.input[-1]))
        if known and len(zero_points) == 1 and (zero_point := zero_points.pop()) is not None:
            yield Pair(node, reader, zero_point)


def with_unsigned(source: Source, integers: Collection[str]) -> Source:
    """Return the source with its signed pairs of these integers as uint8; external data stays where it is."""
    model = source.load(external=lambda _: False)
    for pair in [pair for pair in signed_pairs(model) if pair.integers in integers]:
        zero_point = f"xcam/zero point of {pair.integers}"
        shifted = np.array(pair.zero_point + _SHIFT, np.uint8)
        model.graph.initializer.append(numpy_helper.from_array(shifted, zero_point))
        pair.quantizer.input[_ZERO_POINT] = pair.dequantizer.input[_ZERO_POINT] = zero_point
    for value in model.graph.value_info:
        if value.name in integers:
            value.type.tensor_type.elem_type = onnx.TensorProto.UINT8
    return source.changed(model)


def _is(node: onnx.NodeProto, op: str) -> bool:
    """Tell whether a node is a standard operator of this name, or ONNX Runtime's own operator of this name."""
    return node.op_type == op and (is_standard(node.domain) or node.domain == MICROSOFT)


def _zero_point(node: onnx.NodeProto, constants: Constants) -> int | None:
    """Return the zero point of a quantiser to int8 that has one for the whole tensor, as an input; else None."""
    if len(node.input) <= _ZERO_POINT or any(entry.name == "output_dtype" and entry.i for entry in node.attribute):
        return None
    value = constants.value(node.input[_ZERO_POINT])
    return int(value.item()) if value is not None and value.dtype == np.int8 and value.size == 1 else None
