"""The graph for pictures of one size, where height and width are symbols.

Tokens that are counted, windows that are cut, positions that are picked: with numbers, all of these can be followed.
"""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from onnx_xcam import contract
from onnx_xcam.errors import ModelError
from onnx_xcam.surgery.graph import Graph
from onnx_xcam.surgery.prepare import prepare
from onnx_xcam.surgery.shapes import Shape

SIZES = ((224, 448), *((n, n) for n in (224, 256, 384, 299, 336, 448, 512, 240, 288, 192, 160, 128)))
"""Heights and widths that are tried: first different ones, divisible by most patches and windows, then those of models
that take squares of one size, which are often exported with symbols all the same."""

_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div"})


def sample_of(skeleton: onnx.ModelProto, graph: Graph) -> Graph | None:
    """The graph with numbers in place of a symbolic height and width of its images; None where they are no symbols, or
    the model takes pictures of none of the sizes.
    """
    for size in SIZES:
        model = onnx.ModelProto()
        model.CopyFrom(skeleton)
        if not _set_size(model, graph, size):
            return None
        del model.graph.value_info[:]  # what it says of sizes would stand against the sample's
        try:
            sample = prepare(model)
        except ModelError:
            continue
        if not any(_contradicts(sample, node) for node in sample.nodes):
            return sample
    return None


def _set_size(model: onnx.ModelProto, graph: Graph, size: tuple[int, int]) -> bool:
    """Give a symbolic height and width of the images numbers; whether there were any."""
    chosen: dict[str, int] = {}
    for value in model.graph.input:
        axes = None if graph.is_constant(value.name) else contract.image_axes(graph.shape(value.name) or ())
        for axis, number in zip(axes or (), size, strict=False):
            dim = value.type.tensor_type.shape.dim[axis]
            if not dim.HasField("dim_value"):
                dim.dim_value = chosen.setdefault(dim.dim_param or f"{value.name} {axis}", number)
    return bool(chosen)


def _contradicts(graph: Graph, node: gs.Node) -> bool:
    """Whether a node's operands do not fit each other: a table of positions, or weights that mix a number of tokens."""
    shapes = [graph.shape(tensor.name) for tensor in node.inputs[:2]]
    a, b = [*shapes, None, None][:2]
    if a is None or b is None:
        return False
    if node.op == "MatMul":
        return len(a) > 0 and len(b) > 1 and _differ(a[-1:], b[-2:-1])
    return node.op in _BROADCAST and any(
        _differ((x,), (y,)) for x, y in zip(a[::-1], b[::-1], strict=False) if 1 not in (x, y)
    )


def _differ(a: Shape, b: Shape) -> bool:
    return any(isinstance(x, int) and isinstance(y, int) and x != y for x, y in zip(a, b, strict=True))
