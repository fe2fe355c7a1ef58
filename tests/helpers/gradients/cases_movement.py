"""Operators that move, repeat, pick or pad elements."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import AXIS, NEWEST, OLD, Row, ints, row, scalar

X = "float[N,3,H,W] x"
SIZES = {"H": 4, "W": 6}
BIG = 2**63 - 1


def listed(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def slices(starts: tuple[int, ...], ends: tuple[int, ...], axes: tuple[int, ...], steps: tuple[int, ...]) -> list[Row]:
    """A Slice with constant bounds and with bounds that are inputs."""
    body = ints("starts", *starts) + ints("ends", *ends) + ints("axes", *axes) + ints("steps", *steps)
    count = len(starts)
    return [
        row("Slice", X, body + "y = Slice(x, starts, ends, axes, steps)", opsets=(OLD, 13), **SIZES),
        row("Slice", f"{X}, int64[{count}] starts, int64[{count}] ends",
            ints("axes", *axes) + ints("steps", *steps) + "y = Slice(x, starts, ends, axes, steps)",
            given={"starts": listed(*starts), "ends": listed(*ends)}, **SIZES),
    ]  # fmt: skip


def pads(mode: str, amounts: tuple[int, ...], opsets: tuple[int, ...]) -> list[Row]:
    """A Pad with constant amounts and with amounts that are an input."""
    return [
        row("Pad", X, ints("pads", *amounts) + f'y = Pad<mode = "{mode}">(x, pads)', opsets=opsets, **SIZES),
        row("Pad", f"{X}, int64[8] pads", f'y = Pad<mode = "{mode}">(x, pads)', opsets=opsets, given={"pads": listed(*amounts)}, **SIZES),
    ]  # fmt: skip


def gathers(indices: np.ndarray, axis: int) -> list[Row]:
    """A Gather with constant indices and with indices that are an input."""
    shape = ",".join(map(str, indices.shape))
    kind = f"int64[{shape}]" if shape else "int64"
    numbers = ", ".join(map(str, indices.reshape(-1)))
    return [
        row("Gather", X, f"i = Constant<value = {kind} {{{numbers}}}>() y = Gather<axis = {axis}>(x, i)", opsets=(OLD, 13), **SIZES),
        row("Gather", f"{X}, {kind} i", f"y = Gather<axis = {axis}>(x, i)", opsets=(OLD, 17), given={"i": indices}, **SIZES),
    ]  # fmt: skip


ROWS: list[Row] = [
    *(row("Flatten", X, f"y = Flatten<axis = {axis}>(x)", opsets=(OLD, NEWEST), **SIZES) for axis in (0, 1, 2, 4, -1)),
    row("Flatten", X, "y = Flatten(x)", **SIZES),
    row("Reshape", X, ints("s", 0, -1) + "y = Reshape(x, s)", opsets=(OLD, 14, NEWEST), **SIZES),
    row("Reshape", X, ints("s", 0, 3, -1) + "y = Reshape(x, s)", opsets=(OLD, 17), **SIZES),
    row("Reshape", X, ints("s", 3, 4, -1) + "y = Reshape(x, s)", **SIZES),
    row("Reshape", f"{X}, int64[2] s", "y = Reshape(x, s)", given={"s": listed(6, -1)}, **SIZES),
    row("Reshape", X, ints("l", -1) + "s = Shape(x) b = Constant<value = int64 {0}>() n = Gather(s, b) "
        + ints("z", 0) + "u = Unsqueeze(n, z) t = Concat<axis = 0>(u, l) y = Reshape(x, t)", opsets=(13, 17), **SIZES),
    *(row("Transpose", X, f"y = Transpose<perm = [{perm}]>(x)", opsets=(OLD, NEWEST), **SIZES) for perm in ("0, 2, 3, 1", "3, 0, 1, 2", "0, 1, 2, 3")),
    row("Transpose", X, "y = Transpose(x)", **SIZES),
    *(row("Squeeze", "float[N,1,W,1] x", f"y = Squeeze<axes = [{axes}]>(x)", opsets=(OLD,), **SIZES) for axes in ("1", "1, 3", "-1")),
    *(row("Squeeze", "float[N,1,W,1] x", ints("axes", *axes) + "y = Squeeze(x, axes)", opsets=(AXIS, NEWEST), **SIZES) for axes in ((1,), (-1, 1))),
    row("Squeeze", "float[N,1,W,1] x", "y = Squeeze(x)", opsets=(OLD, 13), **SIZES, variants=("static", "constant")),
    *(row("Unsqueeze", "float[N,W] x", f"y = Unsqueeze<axes = [{axes}]>(x)", opsets=(OLD,), **SIZES) for axes in ("0", "1, 3", "-1")),
    *(row("Unsqueeze", "float[N,W] x", ints("axes", *axes) + "y = Unsqueeze(x, axes)", opsets=(AXIS, NEWEST), **SIZES) for axes in ((0,), (3, 1), (-1,))),
    *(row("Concat", "float[N,3,W] a, float[N,2,W] b, float[N,1,W] c", f"y = Concat<axis = {axis}>(a, b, c)", opsets=(OLD, 13), **SIZES) for axis in (1, -2)),
    row("Concat", "float[A,3] a, float[B,3] b", "y = Concat<axis = 0>(a, b)", A=2, B=3),
    row("Concat", "float[A,3] a, float[B,3] b", "y = Concat<axis = 0>(a, b)", A=2, B=3, wrt=("b",), opsets=(OLD, 17)),
    row("Concat", X, "y = Concat<axis = -1>(x, x)", **SIZES),
    row("Split", "float[N,7,W] x", "a, b, c = Split<axis = 1, split = [2, 4, 1]>(x)", outputs="a b c", opsets=(OLD,), **SIZES),
    row("Split", "float[N,7,W] x", "a, b, c = Split<axis = -2, split = [2, 4, 1]>(x)", outputs="a c", opsets=(OLD,), **SIZES),
    row("Split", "float[N,7,W] x", ints("s", 2, 4, 1) + "a, b, c = Split<axis = 1>(x, s)", outputs="a b c", opsets=(AXIS, NEWEST), **SIZES),
    row("Split", "float[N,7,W] x", ints("s", 2, 4, 1) + "a, b, c = Split<axis = 1>(x, s)", outputs="b", opsets=(AXIS, NEWEST), **SIZES),
    row("Split", "float[4,W] x", "a, b = Split(x)", outputs="a", opsets=(OLD, 13), **SIZES),
    row("Split", "float[4,W] x", "a, b = Split<num_outputs = 2>(x)", outputs="b", opsets=(18, NEWEST), **SIZES),
    row("Split", "float[N,7] x", "a, b, c = Split<axis = 1, num_outputs = 3>(x)", outputs="a c", opsets=(18, NEWEST), **SIZES),
    row("Split", "float[W,2] x", "a, b = Split<axis = 0, num_outputs = 2>(x)", outputs="a b", opsets=(18,), **SIZES),
    *(case for arguments in (
        ((1,), (3,), (1,), (1,)), ((1, 0), (-1, 3), (2, 3), (1, 2)), ((-1,), (-BIG,), (3,), (-1,)), ((4,), (0,), (3,), (-2,)),
        ((-100, 1), (100, BIG), (-1, -2), (3, 1)), ((5,), (-100,), (-1,), (-3,)), ((0, 0), (BIG, BIG), (2, 3), (1, 1)),
      ) for case in slices(*arguments)),
    row("Slice", X, ints("starts", 0, 1) + ints("ends", 1, 3) + "y = Slice(x, starts, ends)", opsets=(OLD, 13), **SIZES),
    row("Slice", X, ints("starts", 0, 1) + ints("ends", 1, 3) + ints("axes", 3, 2) + "y = Slice(x, starts, ends, axes)", **SIZES),
    *(case for mode, opsets in (("constant", (OLD, 13, NEWEST)), ("edge", (OLD, 18)), ("reflect", (OLD, 18)), ("wrap", (19,)))
      for amounts in ((0, 0, 1, 2, 0, 0, 3, 1), (0, 1, 0, 2, 0, 0, 2, 2)) for case in pads(mode, amounts, opsets)),
    *(case for amounts in ((0, 0, -1, 2, 0, 0, 1, -2), (0, 1, 0, -2, 0, 0, 0, -1)) for case in pads("constant", amounts, (OLD, 17))),
    row("Pad", X, ints("pads", 0, 0, -1, 2, 0, 0, 1, -2) + 'y = Pad<mode = "edge">(x, pads)', **SIZES),
    row("Pad", X, ints("pads", 1, 0, 2, 3) + ints("axes", 2, -1) + scalar("v", 2.5) + "y = Pad(x, pads, v, axes)", opsets=(18, NEWEST), **SIZES),
    row("Pad", X, ints("pads", 1, 0, 2, 3) + ints("axes", -1, 2) + 'y = Pad<mode = "reflect">(x, pads, , axes)', opsets=(18, NEWEST), **SIZES),
    row("Pad", X, ints("pads", 0, 0, 0, 0, 0, 0, 0, 0) + "y = Pad(x, pads)", **SIZES),
    *(case for indices, axis in (
        (listed(0, 2), 1), (np.array(1, np.int64), 1), (np.array(-1, np.int64), 2), (listed(3, 1, 1, -4), 2), (listed(2, 0, 1, 3), 2),
        (np.array([[0, 1], [1, -1]], np.int64), -1), (listed(1, 2), 3),
      ) for case in gathers(indices, axis)),
    row("Gather", "float[N,W] x", "i = Constant<value = int64 {0}>() y = Gather<axis = 0>(x, i)", **SIZES),
    row("Expand", "float[N,1,W] x", ints("s", 2, 3, 1) + "y = Expand(x, s)", opsets=(OLD, 13), **SIZES),
    row("Expand", "float[3,1] x", ints("s", 2, 1, 5) + "y = Expand(x, s)"),
    row("Expand", "float[A,W,B] x, int64[4] s", "y = Expand(x, s)", A=2, B=1, W=6, given={"s": listed(3, 1, 6, 4)}, opsets=(OLD, 17)),
    row("Tile", "float[N,W] x", ints("r", 2, 3) + "y = Tile(x, r)", opsets=(OLD, 13), **SIZES),
    row("Tile", "float[N,W] x, int64[2] r", "y = Tile(x, r)", given={"r": listed(3, 2)}, opsets=(OLD, 13), **SIZES),
    *(row("DepthToSpace", "float[N,8,H,W] x", f"y = DepthToSpace<blocksize = 2{mode}>(x)", opsets=(OLD, 13), **SIZES)
      for mode in ("", ', mode = "DCR"', ', mode = "CRD"')),
    row("SpaceToDepth", "float[N,3,H,W] x", "y = SpaceToDepth<blocksize = 2>(x)", opsets=(OLD, 13), **SIZES),
]  # fmt: skip
