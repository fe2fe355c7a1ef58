"""This module makes tensors inside a model its outputs, including those that only the analysis has."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_xcam.surgery.ir.op_traits import proto_traits
from onnx_xcam.surgery.ir.protos import MICROSOFT
from onnx_xcam.surgery.lowering import lowered


def with_outputs(model: bytes, names: Iterable[str]) -> bytes:
    """Return a serialised model with more of its tensors as outputs; ONNX Runtime infers their types."""
    tail = onnx.ModelProto()
    for name in names:
        tail.graph.output.add().name = name
    added: bytes = tail.SerializeToString()
    return model + added


def as_analysed(model: bytes) -> bytes:
    """Return a serialised model with its operators lowered, so that it has every tensor of the analysis."""
    given = onnx.ModelProto.FromString(model)
    analysed = lowered(given)
    if not analysed.inner:
        return model
    # Standard quantisers have some types only from later opsets on, so these stay ONNX Runtime's own.
    others = {node.output[0] for node in given.graph.node if node.domain and proto_traits(node).rounds}
    for node in analysed.model.graph.node:
        if node.output[0] in others:
            node.domain = MICROSOFT
    result: bytes = analysed.model.SerializeToString()
    return result
