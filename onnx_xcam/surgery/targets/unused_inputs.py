"""Inputs that play no part in an explanation: nothing that it needs is made of them, whatever they hold."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnx_xcam import contract
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.ir.protos import tensors_read
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
    return frozenset(plain) - _behind(skeleton, set(needed if needed is not None else added or outputs))


def _behind(skeleton: onnx.ModelProto, wanted: set[str]) -> set[str]:
    """All tensors that the wanted ones are made of, and these."""
    graph = skeleton.graph
    conditions = decided(prepare(skeleton)) if any(node.op_type == "If" for node in graph.node) else {}
    producer = {name: node for node in graph.node for name in node.output if name}
    found, open_names = set(wanted), list(wanted)
    while open_names:
        node = producer.get(open_names.pop())
        if node is None:
            continue
        taken = conditions.get(node.output[0])
        read = set(tensors_read(node) if taken is None else _read_in_branch(node, taken)) - found
        found |= read
        open_names += read
    return found


def _read_in_branch(node: onnx.NodeProto, taken: bool) -> Iterable[str]:
    """The tensors that an If node reads, but for those that only the branch that is not taken reads."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    other = "else_branch" if taken else "then_branch"
    kept = [attribute for attribute in node.attribute if attribute.name != other]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    return tensors_read(copy)
