"""This module finds inputs that play no part in an explanation, since nothing that it needs depends on them."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_xcam import contract
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.uses import Uses, captured, names_read
from onnx_xcam.surgery.normalise.inline_if import decided


def unused_inputs(skeleton: onnx.ModelProto, needed: Iterable[str] | None = None) -> frozenset[str]:
    """Return the inputs without a default that no needed tensor depends on, so that any value may be fed to them.

    Exporters leave such inputs: no node reads them, or only a branch that is never taken does, or only another output
    than the score depends on them.

    Args:
        skeleton: a model, which may lack its weights.
        needed: the needed tensors; None means the added outputs of an instrumented model, and all outputs of a plain
            one.
    """
    graph = skeleton.graph
    with_default = {tensor.name for tensor in graph.initializer}
    given = [value.name for value in graph.input if value.name not in with_default]
    plain = [name for name in given if not name.startswith(contract.ADDED)]
    if len(plain) < 2:
        return frozenset()
    outputs = [value.name for value in graph.output]
    added = [name for name in outputs if name.startswith(contract.ADDED)]
    return frozenset(plain) - _behind(skeleton, needed if needed is not None else added or outputs)


def _behind(skeleton: onnx.ModelProto, wanted: Iterable[str]) -> frozenset[str]:
    """Return the wanted tensors and all that they depend on, through the taken branch of an If where it is known."""
    graph = skeleton.graph
    conditions = decided(prepare(skeleton)) if any(node.op_type == "If" for node in graph.node) else {}

    def reads(node: onnx.NodeProto) -> Iterable[str]:
        taken = conditions.get(node.output[0]) if node.output else None
        if taken is None:
            return names_read(node)
        return [*node.input, *captured(node, without="else_branch" if taken else "then_branch")]

    return backward(Uses(graph.node, reads), wanted).tensors
