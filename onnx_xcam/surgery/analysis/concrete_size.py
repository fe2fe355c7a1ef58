"""This module makes the sample of a model with symbolic height and width: its graph for pictures of one concrete size.

With numbers, all of these can be followed: tokens that are counted, windows that are cut, positions that are picked.
"""

from __future__ import annotations

from typing import TypeAlias

import onnx
import onnx_graphsurgeon as gs

from onnx_xcam import contract
from onnx_xcam.errors import ModelError, UnexpectedError
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.ir.dims import differ
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_traits import traits

SIZES = (
    (224, 448),
    *((n, n) for n in (224, 256, 384, 299, 336, 448, 512, 518, 378, 392, 240, 288, 192, 160, 128, 96, 64, 32)),
)
"""These sizes are tried in turn: first an oblong that most patches and windows divide, then squares.

Models that take squares of one size are often exported with symbols all the same.
"""


def sample_of(skeleton: onnx.ModelProto, graph: Graph) -> Graph | None:
    """Return the graph with numbers for a symbolic height and width of its images; None if there is no such graph.

    There is none if height and width are numbers, or the model takes pictures of none of the sizes.
    """
    if not _open_sides(skeleton, graph):
        return None
    return next((sample for size in SIZES if (sample := _sample(skeleton, graph, size)) is not None), None)


def picture_size(skeleton: onnx.ModelProto, graph: Graph) -> tuple[int, int] | None:
    """Return the first size of square pictures that a model with symbolic height and width takes.

    The result is None if height and width are numbers, or no size fits.
    """
    if not _open_sides(skeleton, graph):
        return None
    return next((size for size in SIZES[1:] if _sample(skeleton, graph, size) is not None), None)


def _sample(skeleton: onnx.ModelProto, graph: Graph, size: tuple[int, int]) -> Graph | None:
    """Return the graph for pictures of one height and width, None if the model does not take them."""
    model = onnx.ModelProto()
    model.CopyFrom(skeleton)
    numbers: dict[str, int] = {}
    for dim, symbol, side in _open_sides(model, graph):
        dim.dim_value = numbers.setdefault(symbol, size[side])
    del model.graph.value_info[:]  # noted shapes with symbols would contradict the sample's numbers
    _forget_symbols_of_outputs(model.graph)
    try:
        sample = prepare(model)
    except UnexpectedError:
        raise
    except ModelError:
        return None
    return None if any(_contradicts(sample, node) for node in sample.nodes) else sample


def _forget_symbols_of_outputs(graph: onnx.GraphProto) -> None:
    """Clear the symbols that only outputs have, as exporters make them up, so that their lengths are inferred."""
    known = {dim.dim_param for value in graph.input for dim in value.type.tensor_type.shape.dim}
    for value in graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param not in known:
                dim.ClearField("dim_param")


_Side: TypeAlias = "tuple[onnx.TensorShapeProto.Dimension, str, int]"
"""An image's height or width: the dimension, its symbol, and 0 for height or 1 for width."""


def _open_sides(model: onnx.ModelProto, graph: Graph) -> list[_Side]:
    """Return the heights and widths of images that are no numbers."""
    sides = []
    for value in model.graph.input:
        axes = None if graph.is_constant(value.name) else contract.picture_sides(graph.shape(value.name) or ())
        for side, axis in enumerate(axes or ()):
            dim = value.type.tensor_type.shape.dim[axis]
            if not dim.HasField("dim_value"):
                sides.append((dim, dim.dim_param or f"{value.name} {axis}", side))
    return sides


def _contradicts(graph: Graph, node: gs.Node) -> bool:
    """Tell whether a node's operands do not fit each other, as a table of positions and another number of tokens."""
    shapes = [graph.shape(tensor.name) for tensor in node.inputs[:2]]
    a, b = [*shapes, None, None][:2]
    if a is None or b is None:
        return False
    facts = traits(node)
    if facts.axes == "matmul":
        return len(a) > 0 and len(b) > 1 and differ(a[-1], b[-2])
    pairs = zip(a[::-1], b[::-1], strict=False)
    return facts.elementwise == "all" and not facts.passive and any(differ(x, y) for x, y in pairs if 1 not in (x, y))
