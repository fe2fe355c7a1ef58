"""This module finds the tensors behind which positions of a picture still act on each other, on the way to a score.

A layer from which every way to a score keeps positions apart shows nothing but the score itself: a map of it lights up
at the score's own position, whatever is in the picture. Kernels larger than one position, resizing, sampling and
attention mix positions. Statistics over space, as normalisation takes them, do not count.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.differentiable_path import DifferentiablePath
from onnx_xcam.surgery.analysis.reachability import backward
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.op_facts import Values
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.ir.uses import names_read


def mixed_behind(path: DifferentiablePath, ends: Collection[str]) -> frozenset[str]:
    """Return the tensors from which a way to one of the ends mixes positions.

    Args:
        path: what lies between the picture and a score.
        ends: tensors on the path.
    """
    uses = path.graph.uses

    def enters(_: gs.Node, name: str) -> bool:
        return name in path.tensors

    mixing = [node for node in backward(uses, ends, enters=enters).nodes if _mixes(path, node)]
    read = [name for node in mixing for name in names_read(node) if name in path.tensors]
    return backward(uses, read, enters=enters).tensors


def _mixes(path: DifferentiablePath, node: gs.Node) -> bool:
    """Tell whether a position of a node's output depends on several positions of what the path passes through."""
    facts = traits(node)
    if facts.coordinates or facts.axes in ("rescaled", "sampled"):
        return True
    if facts.axes == "windowed":
        return any(side != 1 for side in _kernel(path.graph, node))
    if facts.axes == "image":
        return facts.values == Values.COMPUTED
    if facts.axes in ("matmul", "einsum"):  # attention, or a matrix from the left, which acts on rows: positions
        return any(tensor.name in path.tensors for tensor in node.inputs[1:])
    return False


def _kernel(graph: Graph, node: gs.Node) -> Collection[object]:
    """Return the sides of a kernel, which the node states or its weights have; that of a global pool is unknown."""
    stated = node.attrs.get("kernel_shape")
    if stated is None and traits(node).weighted:
        stated = (graph.shape(str(node.inputs[1].name)) or (None, None, None))[2:]
    return (None,) if stated is None else stated
