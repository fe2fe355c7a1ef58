"""Reductions."""

from __future__ import annotations

from helpers.gradients.rows import NEWEST, OLD, Row, ints, row

OPS = {
    "ReduceSum": 13, "ReduceMean": 18, "ReduceMax": 18, "ReduceMin": 18, "ReduceL1": 18, "ReduceL2": 18,
    "ReduceLogSum": 18, "ReduceLogSumExp": 18, "ReduceSumSquare": 18, "ReduceProd": 18,
}  # fmt: skip
"""Each reduction and the opset since which its axes are an input."""
DOMAINS = {"ReduceLogSum": {"x": (0.3, 3.0)}, "ReduceProd": {"x": (0.5, 1.6)}}
X = "float[N,3,H,W] x"
SIZES = {"H": 4, "W": 5}


def rows_of(op: str, since: int) -> list[Row]:
    options = {**SIZES, "domains": DOMAINS.get(op, {})}
    old = [n for n in (OLD, 12, 17) if n < since]
    new = (since, NEWEST)
    return [
        *(row(op, X, f"y = {op}<axes = [{axes}], keepdims = {keep}>(x)", opsets=old, **options)
          for axes in ("1", "-1, 2", "0, 2, 3") for keep in (0, 1)),
        *(row(op, X, f"y = {op}<keepdims = {keep}>(x)", opsets=(OLD, *new), **options) for keep in (0, 1)),
        *(row(op, X, ints("axes", *axes) + f"y = {op}<keepdims = {keep}>(x, axes)", opsets=new, **options)
          for axes in ((1,), (-1, 2), (0, 2, 3)) for keep in (0, 1)),
        *(row(op, X, ints("axes") + f"y = {op}<noop_with_empty_axes = {noop}>(x, axes)", opsets=new, **options)
          for noop in (0, 1)),
        *(row(op, X, f"y = {op}<noop_with_empty_axes = 1, keepdims = {keep}>(x)", opsets=(since,), **options)
          for keep in (0, 1)),
    ]  # fmt: skip


ZEROS = "m = Constant<value = float[4] {1, 0, 1, 1}>() n = Constant<value = float[3,1] {1, 0, 1}>() "
"""Factors that make one element of every row zero; and, with both, all elements of one."""
ROWS = [
    *(row_ for op, since in OPS.items() for row_ in rows_of(op, since)),
    *(row("ReduceProd", "float[N,3,4] x", ZEROS + f"z = Mul(x, {first}) y = ReduceProd<axes = [-1]>(z)")
      for first in ("m", "n")),
]  # fmt: skip
