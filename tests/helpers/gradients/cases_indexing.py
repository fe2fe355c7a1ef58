"""Operators that read or write the elements that an index tensor names."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import NEWEST, OLD, Row, ints, row

X = "float[N,3,H,W] x"
SIZES = {"H": 4, "W": 6}
STATIC = ("static", "constant")


def indices(*shape: int, below: int, distinct: int | None = None, seed: int = 0) -> np.ndarray:
    """Integers from -below to below - 1; along the axis `distinct` none names a place twice."""
    rng = np.random.default_rng(seed)
    places = rng.integers(0, below, shape)
    if distinct is not None:
        places = rng.permuted(
            np.arange(np.prod(shape)).reshape(shape) * 0 + _ramp(shape, distinct, below), axis=distinct
        )
    return places - below * rng.integers(0, 2, shape)


def _ramp(shape: tuple[int, ...], axis: int, below: int) -> np.ndarray:
    line = np.random.default_rng(1).permutation(below)[: shape[axis]]
    return line.reshape([-1 if a == axis else 1 for a in range(len(shape))])


def tuples(count: int, *limits: int) -> np.ndarray:
    """Different index tuples, some counted from the end, `[count, len(limits)]`."""
    rng = np.random.default_rng(2)
    flat = rng.permutation(int(np.prod(limits)))[:count]
    places = np.stack(np.unravel_index(flat, limits), -1)
    return places - np.array(limits) * rng.integers(0, 2, places.shape)


GATHERED = [(0, (5, 3, 4, 6)), (1, (2, 2, 4, 6)), (-1, (2, 3, 4, 9)), (2, (2, 3, 5, 6)), (-2, (2, 2, 3, 5))]
"""The axis, and the indices' shape: sometimes smaller than x along the other axes."""
ROWS: list[Row] = [
    *(row("GatherElements", f"{X}, int64[{','.join(map(str, s))}] i", f"y = GatherElements<axis = {axis}>(x, i)",
          given={"i": indices(*s, below=(2, 3, 4, 6)[axis])}, opsets=(OLD, 17), **SIZES) for axis, s in GATHERED),
    row("GatherElements", "float[N,W] x, int64[M,P] i", "y = GatherElements<axis = 1>(x, i)", given={"i": indices(2, 4, below=6)},
        M=2, P=4, opsets=(OLD, 13, NEWEST), **SIZES),
    row("GatherElements", "float[3,W] x", "i = Constant<value = int32[1,2] {1, -1}>() y = GatherElements(x, i)", opsets=(OLD, 17), **SIZES),
    *(row("GatherND", f"{X}, int64[{','.join(map(str, i.shape))}] i", f"y = GatherND<batch_dims = {batch}>(x, i)",
          given={"i": i}, opsets=(12, 13, 17), **SIZES)
      for batch, i in (
          (0, tuples(3, 2, 3, 4, 6)), (0, tuples(5, 2, 3)), (0, indices(2, 7, 1, below=2)), (0, np.array([1, -1])),
          (1, tuples(6, 3, 4).reshape(2, 3, 2)), (1, np.array([[0], [-1]])), (2, tuples(6, 4, 6).reshape(2, 3, 1, 2)))),
    row("GatherND", f"{X}, int64[M,2] i", "y = GatherND(x, i)", given={"i": np.array([[0, 1], [1, 1], [0, 1]])}, M=3, opsets=(OLD, 13, NEWEST), **SIZES),
    *(row("ScatterElements", f"{X}, int64[{s}] i, float[{s}] u", f"y = ScatterElements<axis = {axis}>(x, i, u)",
          given={"i": i}, opsets=(OLD, 13, 18), **SIZES)
      for axis, i in ((3, indices(2, 3, 4, 5, below=6, distinct=3)), (-3, indices(2, 2, 3, 6, below=3, distinct=1)))
      for s in [",".join(map(str, i.shape))]),
    row("ScatterElements", "float[N,W] x, int64[M,P] i, float[M,P] u", "y = ScatterElements<axis = 1>(x, i, u)",
        given={"i": indices(2, 4, below=6, distinct=1)}, M=2, P=4, opsets=(OLD, 17), **SIZES),
    row("ScatterElements", "float[N,W] x, int64[2,9] i, float[2,9] u", 'y = ScatterElements<axis = 1, reduction = "add">(x, i, u)',
        given={"i": indices(2, 9, below=6)}, opsets=(16, NEWEST), **SIZES),
    *(row("ScatterND", f"{X}, int64[{','.join(map(str, i.shape))}] i, float[{u}] u", "y = ScatterND(x, i, u)", given={"i": i}, opsets=(OLD, 13, 18), **SIZES)
      for i, u in ((tuples(3, 2, 3, 4, 6), "3"), (tuples(5, 2, 3), "5,H,W"), (tuples(6, 2, 3, 4).reshape(2, 3, 3), "2,3,W"), (np.array([1]), "3,H,W"))),
    row("ScatterND", f"{X}, int64[M,2] i, float[M,H,W] u", "y = ScatterND(x, i, u)", given={"i": tuples(4, 2, 3)}, M=4, wrt=("u",), opsets=(OLD, 17), **SIZES),
    row("ScatterND", f"{X}, int64[M,2] i, float[M,H,W] u", 'y = ScatterND<reduction = "add">(x, i, u)',
        given={"i": np.array([[0, 1], [1, 2], [0, 1]])}, M=3, opsets=(16, NEWEST), **SIZES),
    *(row("TopK", X, ints("k", 2) + f"y, i = TopK<axis = {axis}, largest = {largest}>(x, k)", opsets=(OLD, NEWEST), **SIZES)
      for axis in (1, -1, 0) for largest in (0, 1)),
    row("TopK", f"{X}, int64[1] k", "y, i = TopK(x, k)", given={"k": np.array([4])}, opsets=(OLD, 17), **SIZES),
    *(row("Compress", f"{X}, bool[{len(c)}] c", f"y = Compress<axis = {axis}>(x, c)", given={"c": np.array(c, bool)}, opsets=(OLD, 17), **SIZES)
      for axis, c in ((0, [0, 1]), (-1, [1, 0, 1, 1, 0, 1]), (2, [0, 1, 1]))),
    row("Compress", "float[N,W] x, bool[12] c", "y = Compress(x, c)", given={"c": np.array([0, 1, 1, 0] * 3, bool)}, opsets=(OLD, 17), **SIZES),
    row("Compress", "float[N,W] x, bool[M] c", "y = Compress(x, c)", M=7, given={"c": np.array([1, 0, 1, 0, 0, 0, 1], bool)}, opsets=(OLD, 17), **SIZES),
    *(row("OneHot", "int64[N,3] i, float[2] v", f"d = Constant<value = int64 {{5}}>() y = OneHot{axis}(i, d, v)", given={"i": np.array([[0, -1, 7], [4, 2, 2]])},
          opsets=(OLD, 17)) for axis in ("", "<axis = 0>", "<axis = 1>")),
    *(row("Trilu", X, f"y = Trilu<upper = {upper}>(x)", opsets=(14, NEWEST), **SIZES) for upper in (0, 1)),
    *(row("Trilu", f"{X}, int64 k", f"y = Trilu<upper = {upper}>(x, k)", given={"k": np.array(k)}, opsets=(14, 17), **SIZES)
      for upper in (0, 1) for k in (-1, 2)),
    row("Trilu", X, "y = Trilu(x)", opsets=(14,), **SIZES),
    row("ReverseSequence", "float[W,N,3] x, int64[N] n", "y = ReverseSequence(x, n)", given={"n": np.array([4, 6])}, opsets=(OLD, 17), **SIZES),
    row("ReverseSequence", "float[N,W,3] x, int64[N] n", "y = ReverseSequence<batch_axis = 0, time_axis = 1>(x, n)",
        given={"n": np.array([1, 5])}, opsets=(OLD, 17), **SIZES),
    row("MaxUnpool", "float[N,1,2,2] x, int64[N,1,2,2] i", "y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(x, i)",
        given={"i": np.array([[[[0, 3], [13, 10]]], [[[17, 22], [24, 31]]]])}, opsets=(OLD, 17)),
]  # fmt: skip
