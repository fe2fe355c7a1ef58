"""This module finds tensors of a quantised model that hold the same values."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.lowering.constants import Constants


def one_tensor_each(nodes: Iterable[onnx.NodeProto], constants: Constants) -> dict[str, str]:
    """Return for each tensor that holds the same values as an earlier one the earlier one, to be read in its place.

    - A Cast of quantised integers to the type that they have, as PyTorch writes it, gives the integers.
    - A quantised tensor that is dequantised several times, once for each reader, gives the first of these floats. What
      was one tensor before quantisation is then one tensor in the analysis too, and can be a layer.
    """
    kinds: dict[str, int] = {}
    first: dict[tuple[object, ...], str] = {}
    instead: dict[str, str] = {}
    for node in nodes:
        source = instead.get(node.input[0], node.input[0]) if node.input else ""
        facts = proto_traits(node)
        if facts.quantises:
            kinds[node.output[0]] = _kind(node, constants)
        elif facts.casts and source in kinds:
            if any(entry.i == kinds[source] for entry in node.attribute if entry.name == "to"):
                instead[node.output[0]] = source
        elif facts.dequantises:
            values = [constants.content(name) for name in node.input[1:]]
            key = (source, *values, *(entry.SerializeToString() for entry in node.attribute))
            name = first.setdefault(key, node.output[0])
            if name != node.output[0]:
                instead[node.output[0]] = name
    return instead


def _kind(node: onnx.NodeProto, constants: Constants) -> int:
    """Return the element type that a node quantises to, as onnx numbers them; 0 if the file does not tell it."""
    if len(node.input) > 2 and node.input[2]:
        return constants.element(node.input[2])
    stated = next((int(entry.i) for entry in node.attribute if entry.name == "output_dtype"), 0)
    return stated or int(onnx.TensorProto.UINT8)
