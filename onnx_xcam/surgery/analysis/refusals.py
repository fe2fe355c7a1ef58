"""This module refuses files that nothing can be done with, and says where to get one that can be used."""

from __future__ import annotations

import onnx

from onnx_xcam import contract
from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits

_ONE_MACHINE = {
    "com.microsoft.nchwc": "ONNX Runtime writes for one kind of processor when it optimises at level 'all'",
    "com.ms.internal.nhwc": "ONNX Runtime writes for one execution provider",
}
"""This table maps domains of operators that run on one kind of machine only to who writes them."""
_COMPILED = "EPContext"
"""An operator of this name holds a part that is compiled for one device."""

_STORAGE = frozenset({"bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"})
"""ONNX Runtime's CPU converts and moves these types, and does not compute with them."""


def refuse_one_machine(skeleton: onnx.ModelProto, name: str) -> None:
    """Refuse a model that is optimised, or compiled, for one machine or provider.

    Raises:
        ModelError: the model is such a one, and not an instrumented one, which needs no surgery any more.
    """
    nodes = skeleton.graph.node
    if contract.is_instrumented({value.name for value in skeleton.graph.output}):
        return
    for domain, why in _ONE_MACHINE.items():
        bound = [node for node in nodes if node.domain == domain]
        if bound:
            raise ModelError(
                f"{name} has {len(bound)} nodes of the domain {domain} (such as {bound[0].op_type}), which {why}; use "
                "the file from before that optimisation, or save it at the level 'extended'."
            )
    if any(node.op_type == _COMPILED for node in nodes):
        raise ModelError(
            f"{name} holds a part that is compiled for one device (operator {_COMPILED}), which cannot be looked into; "
            "use the file that it was compiled from."
        )


def refuse_types(graph: Graph, name: str) -> None:
    """Refuse a model that computes in a type that ONNX Runtime's CPU only stores.

    Raises:
        ModelError: the model does.
    """
    for node in graph.nodes:
        if traits(node).stores_any_type:
            continue
        for tensor in (*node.inputs, *node.outputs):
            dtype = graph.dtype(tensor.name) if tensor.name else None
            if dtype is not None and dtype.name in _STORAGE:
                raise ModelError(
                    f"{name} computes in {dtype.name} (node '{node.name or node.outputs[0].name}', {node.op}), for "
                    "which ONNX Runtime's CPU has no kernels; convert it to float16 or float32."
                )
