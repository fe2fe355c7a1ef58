"""This module holds the gradient rules of matrix products and of Fourier transforms, which are matrix products too."""

from __future__ import annotations

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.builder.broadcasting import expanded_where_unsure, unbroadcast
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp


@vjp("MatMul", constant_axes=True)
def matmul(node: NodeView, gy: Value) -> Gradients:
    """Y = A B;  gA = gY Bᵀ, gB = Aᵀ gY, summed over the leading axes that were broadcast.

    A vector is taken as a matrix with one row (A) or one column (B).
    """
    a, b = (node.weight(i, (-2, -1)) for i in range(2))
    row, column = a.rank == 1, b.rank == 1
    a = a.unsqueeze([0]) if row else a
    b = b.unsqueeze([1]) if column else b
    axes = ([-2] if row else []) + ([-1] if column else [])
    gy, y = node.full(gy, [-2, -1][row + column :]), node.y
    gy, y = gy.unsqueeze(_inserted_axes(axes, gy.rank)), y.unsqueeze(_inserted_axes(axes, y.rank))
    gy = expanded_where_unsure(gy, [a, b], y)
    ga = unbroadcast(gy @ _with_rank_of(node, b, gy).swap_last(), a, y, exempt=2) if node.needs(0) else None
    gb = unbroadcast(_with_rank_of(node, a, gy).swap_last() @ gy, b, y, exempt=2) if node.needs(1) else None
    return ga.squeeze([-2]) if ga and row else ga, gb.squeeze([-1]) if gb and column else gb


def _with_rank_of(node: NodeView, value: Value, gy: Value) -> Value:
    """Return an operand; in half precision, with leading axes of size 1 so that its rank is that of the gradient.

    ONNX Runtime's MatmulTransposeFusion (1.32) looks for a Transpose before the Cast of an operand and exchanges the
    two. If the ranks then do not allow the fusion, it leaves the nodes it moved unfinished, and the later NCHWc pass
    crashes. It does not look behind an Unsqueeze.
    """
    half = any(node.graph.dtype(tensor.name) == np.float16 for tensor in node.node.inputs)
    return value.unsqueeze(list(range(gy.rank - value.rank))) if half and 2 < value.rank < gy.rank else value


def _inserted_axes(axes: list[int], rank: int) -> list[int]:
    """Return negative axes that are inserted into a tensor of this rank, counted from the front of the result."""
    return [axis + rank + len(axes) for axis in axes]


@vjp("Gemm", constant_axes=True)
def gemm(node: NodeView, gy: Value) -> Gradients:
    """Y = alpha A' B' + beta C;  gA' = alpha gY B'ᵀ, gB' = alpha A'ᵀ gY, gC = beta gY (summed where broadcast).

    A' is A, or Aᵀ where `transA` is set; B' likewise.
    """
    a, b = (node.weight(i, (0, 1)) for i in range(2))
    gy = node.full(gy)
    scaled = gy * node.attr("alpha", 1.0)
    trans_a, trans_b = bool(node.attr("transA", 0)), bool(node.attr("transB", 0))
    ga = scaled @ (b if trans_b else b.transpose([1, 0])) if node.needs(0) else None
    gb = (a if trans_a else a.transpose([1, 0])) @ scaled if node.needs(1) else None
    gc = unbroadcast(gy * node.attr("beta", 1.0), node.input(2), node.y) if node.needs(2) else None
    return ga.swap_last() if ga and trans_a else ga, gb.swap_last() if gb and trans_b else gb, gc


@vjp("DFT")
def dft(node: NodeView, gy: Value) -> Gradients:
    """y = M x along an axis, for x with its real and imaginary parts (the last axis) as one vector;  gx = Mᵀ gy.

    M is what the same transform gives for the unit vectors, so every length, direction and one-sided form is covered.
    """
    x, y = node.x, node.y
    parts = x.shape[-1]
    if not isinstance(parts, int):
        raise node.unsupported("whether its input is real or complex is known only at run time")
    axis = _dft_axis(node)
    matrix = _dft_matrix(node, axis, parts)
    kept = [a for a in range(1, gy.rank) if a not in (axis + 1, gy.rank - 1)]
    order = [0, *kept, axis + 1, gy.rank - 1]
    lead = [shapes.dim_part(gy, a) for a in order[:-2]]
    known = tuple(gy.shape[a] for a in order[:-2])
    rows = gy.transpose(order).reshape([*lead, -1], (*known, dims.known_size((y.shape[axis], y.shape[-1]))))
    gx = (rows @ matrix.swap_last()).reshape([*lead, -1, parts], (*known, x.shape[axis], parts))
    return gx.transpose([int(a) for a in np.argsort(order)])


@vjp("STFT")
def stft(node: NodeView, gy: Value) -> Gradients:
    """y = M x for the samples x of each signal;  gx = Mᵀ gy.

    M is what the same transform gives for the unit vectors, so every window, step and one-sided form is covered.
    """
    x, y = node.x, node.y
    length, parts = x.shape[1:]
    if not isinstance(length, int) or not isinstance(parts, int):
        raise node.unsupported("the length of its signal is known only at run time")
    sizes = (length * parts, *y.shape[1:])
    shapes.table_size(*(size for size in sizes if isinstance(size, int)))
    units = node.constant(np.eye(length * parts).reshape(-1, length, parts), x.dtype)
    others = [node.input(i) if node.has_input(i) else None for i in range(1, len(node.node.inputs))]
    made = node.emitter.one("STFT", [units, *others], x.dtype, sizes, onesided=node.attr("onesided", 1))
    matrix = made.reshape([length * parts, -1], (length * parts, dims.known_size(sizes[1:])))
    rows = gy.reshape([*shapes.dim_parts(gy, 0, 2), -1], (*gy.shape[:2], matrix.shape[1]))
    return (rows @ matrix.swap_last()).reshape([0, 0, length, parts], (*gy.shape[:2], length, parts))


def _dft_axis(node: NodeView) -> int:
    """Return the axis that a DFT transforms, non-negative; an attribute before opset 20, an input since."""
    default = 1 if node.opset < 20 else -2
    axes = node.ints(2, "axis") if node.has_input(2) else [node.attr("axis", default)]
    assert axes is not None
    return axes[0] % node.x.rank


def _dft_matrix(node: NodeView, axis: int, parts: int) -> Value:
    """Return the transforms of the unit vectors, one per row: `[x size * parts, y size * y parts]`."""
    x, y = node.x, node.y
    size, places = shapes.dim_part(x, axis), x.range_of(axis)
    same = places.unsqueeze([1]).equal(places).cast(x.dtype).unsqueeze([1, 3])
    units = same * node.constant(np.eye(parts), x.dtype).unsqueeze([0, 2])
    units = units.reshape([-1, size, parts], (dims.known_size((x.shape[axis], parts)), x.shape[axis], parts))
    flags = {name: node.attr(name, 0) for name in ("inverse", "onesided")}
    inputs = [units, node.input(1) if node.has_input(1) else None]
    shape = (units.shape[0], y.shape[axis], y.shape[-1])
    if node.opset < 20:
        rows = node.emitter.one("DFT", inputs, x.dtype, shape, axis=1, **flags)
    else:
        rows = node.emitter.one("DFT", [*inputs, node.constant(1, np.int64)], x.dtype, shape, **flags)
    return rows.reshape([shapes.dim_part(units, 0), -1], (shape[0], dims.known_size(shape[1:])))
