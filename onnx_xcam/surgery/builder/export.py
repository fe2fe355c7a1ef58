"""This module makes ONNX nodes of recorded steps, which is the last step of building."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
import onnx_graphsurgeon as gs

from onnx_xcam.errors import UnexpectedError
from onnx_xcam.surgery.builder.emitter import PREFIX, Emitter
from onnx_xcam.surgery.builder.simplify import simplified
from onnx_xcam.surgery.builder.values import Value


def export(emitter: Emitter, outputs: Sequence[str], ir_version: int) -> onnx.GraphProto:
    """Return the nodes that some outputs need, simplified and in order, with their constants as initializers.

    Args:
        emitter: the emitter that has recorded the steps.
        outputs: names that `Emitter.named` has given.
        ir_version: the IR version of the result.

    Raises:
        UnexpectedError: an output was never made, which is a defect of this program.
    """
    missing = [name for name in outputs if emitter.output(name) is None]
    if missing:
        raise UnexpectedError(f"Nothing computes the outputs {sorted(missing)}; please report this model.")
    simple, values = simplified(emitter, [value for name in outputs if (value := emitter.output(name)) is not None])
    graph = gs.Graph(nodes=_nodes(simple, dict(zip(outputs, values, strict=True))), opset=emitter.opset)
    model = gs.export_onnx(graph, do_type_check=False, ir_version=ir_version)
    result: onnx.GraphProto = model.graph
    return result


def _nodes(emitter: Emitter, outputs: Mapping[str, Value]) -> list[gs.Node]:
    """Return the nodes that compute the values of `outputs`, with these values under their names there."""
    steps, names = emitter.needed(list(outputs.values())), dict[str, str]()
    made = {out.name for step in steps for out in step.outputs if out is not None}
    copied = []
    for name, value in outputs.items():
        if value.name in made and value.name not in names:
            names[value.name] = name
        else:  # a tensor of the model, or a value that has another output name already
            copied.append((name, value))
    tensors: dict[str, gs.Tensor] = {}

    def tensor(value: Value | None) -> gs.Tensor:
        if value is None:
            return gs.Variable.empty()
        if value.name not in tensors:
            array = value.const if emitter.is_constant(value.name) else None
            name = names.get(value.name, value.name)
            tensors[value.name] = gs.Variable(name) if array is None else gs.Constant(name, array)
        return tensors[value.name]

    nodes = [
        gs.Node(
            step.op,
            next(value.name for value in step.outputs if value is not None),
            dict(step.attributes),
            [tensor(value) for value in step.inputs],
            [tensor(value) for value in step.outputs],
            step.domain,
        )
        for step in steps
    ]
    for name, value in copied:
        nodes.append(gs.Node("Identity", f"{PREFIX}/{name}", {}, [tensor(value)], [gs.Variable(name)]))
    return nodes
