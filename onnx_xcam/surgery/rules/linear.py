"""Matrix products."""

from __future__ import annotations

from onnx_xcam.surgery.broadcasting import expanded_where_unsure, unbroadcast
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp


@vjp("MatMul", constant_axes=True)
def matmul(node: NodeView, gy: Value) -> Gradients:
    """Y = A B;  gA = gY Bᵀ, gB = Aᵀ gY, leading axes broadcast. Vectors are matrices with one row or column."""
    a, b = node.inputs
    row, column = a.rank == 1, b.rank == 1
    a = a.unsqueeze([0]) if row else a
    b = b.unsqueeze([1]) if column else b
    axes = ([-2] if row else []) + ([-1] if column else [])
    gy, y = node.full(gy, [-2, -1][row + column :]), node.y
    gy, y = gy.unsqueeze(_placed(axes, gy.rank)), y.unsqueeze(_placed(axes, y.rank))
    gy = expanded_where_unsure(gy, [a, b], y)
    ga = unbroadcast(gy @ b.swap_last(), a, y, exempt=2) if node.needs(0) else None
    gb = unbroadcast(a.swap_last() @ gy, b, y, exempt=2) if node.needs(1) else None
    return ga.squeeze([-2]) if ga and row else ga, gb.squeeze([-1]) if gb and column else gb


def _placed(axes: list[int], rank: int) -> list[int]:
    return [axis + rank + len(axes) for axis in axes]


@vjp("Gemm", constant_axes=True)
def gemm(node: NodeView, gy: Value) -> Gradients:
    """Y = alpha A' B' + beta C;  gA' = alpha gY B'ᵀ, gB' = alpha A'ᵀ gY, gC = beta gY (summed where broadcast)."""
    a, b = node.input(0), node.input(1)
    gy = node.full(gy)
    scaled = gy * node.attr("alpha", 1.0)
    trans_a, trans_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    ga = scaled @ (b if trans_b else b.transpose([1, 0])) if node.needs(0) else None
    gb = (a if trans_a else a.transpose([1, 0])) @ scaled if node.needs(1) else None
    gc = unbroadcast(gy * node.attr("beta", 1.0), node.input(2), node.y) if node.needs(2) else None
    return ga.swap_last() if ga and trans_a else ga, gb.swap_last() if gb and trans_b else gb, gc
