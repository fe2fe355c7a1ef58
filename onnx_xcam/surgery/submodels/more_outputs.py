"""This module makes tensors inside a model outputs of it, those included that only the analysis has."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.protos import MICROSOFT
from onnx_xcam.surgery.lowering import lowered


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """A serialised model with more of its tensors as outputs; ONNX Runtime finds out their types."""
    tail = onnx.ModelProto()
    for name in names:
        tail.graph.output.add().name = name
    added: bytes = tail.SerializeToString()
    return model + added


def as_analysed(model: bytes) -> bytes:
    """A serialised model with its operators lowered to standard ones, so that it has every tensor of the analysis."""
    given = onnx.ModelProto.FromString(model)
    found = lowered(given)
    if not found.inner:
        return model
    # The standard's own have some types from later opsets on only.
    others = {node.output[0] for node in given.graph.node if node.domain and proto_traits(node).rounds}
    for node in found.model.graph.node:
        if node.output[0] in others:
            node.domain = MICROSOFT
    result: bytes = found.model.SerializeToString()
    return result
