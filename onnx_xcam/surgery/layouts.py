"""What the axes of a tensor mean: images, channels, height, width.

Convolution and pooling fix the meaning of their axes (N, C, then space); from there it spreads forward through
operators that keep or permute axes. Nothing is read off names.
"""

from __future__ import annotations

from typing import TypeAlias

import onnx_graphsurgeon as gs

from onnx_xcam.contract import Layout
from onnx_xcam.surgery.graph import Graph

Roles: TypeAlias = str
"""One letter per axis: N, C, H, W."""

_SPATIAL_OPS = frozenset(
    {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool"}
    | {"BatchNormalization", "InstanceNormalization", "LRN", "DepthToSpace", "SpaceToDepth", "Upsample", "GridSample"}
)
_MOVES_AXES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "Einsum", "Gather"})


def axis_roles(graph: Graph) -> dict[str, Roles]:
    """The meaning of the axes of every four-dimensional tensor that it is known of."""
    roles: dict[str, Roles] = {}
    for node in graph.nodes:
        if node.op in _SPATIAL_OPS and _rank(graph, node.outputs[0].name) == 4:
            roles.setdefault(node.inputs[0].name, "NCHW")
            found: Roles | None = "NCHW"
        elif node.op == "Transpose":
            found = _transposed(roles.get(node.inputs[0].name), node)
        elif node.op in _MOVES_AXES:
            found = None
        else:
            found = _kept(graph, node, roles)
        if found is not None:
            roles.update({out.name: found for out in node.outputs if _rank(graph, out.name) == len(found)})
    return roles


def layout_of(roles: Roles | None) -> Layout | None:
    """The layout that these axis meanings make, None if it is none of the contract's."""
    known: dict[str, Layout] = {"NCHW": "NCHW", "NHWC": "NHWC"}
    return known.get(roles or "")


def _rank(graph: Graph, name: str) -> int | None:
    shape = graph.shape(name)
    return None if shape is None else len(shape)


def _transposed(roles: Roles | None, node: gs.Node) -> Roles | None:
    if roles is None:
        return None
    perm = node.attrs.get("perm") or list(range(len(roles)))[::-1]
    return "".join(roles[axis] for axis in perm)


def _kept(graph: Graph, node: gs.Node, roles: dict[str, Roles]) -> Roles | None:
    """The roles of the first input that has any, if the output has as many axes."""
    for tensor in node.inputs:
        found = roles.get(tensor.name)
        if found is not None and _rank(graph, node.outputs[0].name) == len(found):
            return found
    return None
