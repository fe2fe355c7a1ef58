"""This module finds inputs that play no part in an explanation: nothing that it needs is made of them."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_xcam import contract
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.uses import Uses, captured, names_read
from onnx_xcam.surgery.normalise.inline_if import decided


def unused_inputs(skeleton: onnx.ModelProto, needed: Iterable[str] | None = None) -> frozenset[str]:
    """The inputs without a default that nothing needed is made of, and which may be fed anything.

    Exporters leave such inputs: no node reads them, or only a branch that is never taken does, or what is made of them
    is another output than the score.

    Args:
        skeleton: a model, which may lack its weights.
        needed: the tensors that are; None for the outputs that were added to an instrumented model, and all of a plain
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
    """All tensors that the wanted ones are made of, and these; of an If with a known condition, by the branch taken."""
    graph = skeleton.graph
    conditions = decided(prepare(skeleton)) if any(node.op_type == "If" for node in graph.node) else {}

    def reads(node: onnx.NodeProto) -> Iterable[str]:
        taken = conditions.get(node.output[0]) if node.output else None
        if taken is None:
            return names_read(node)
        return [*node.input, *captured(node, without="else_branch" if taken else "then_branch")]

    return backward(Uses(graph.node, reads), wanted).tensors
