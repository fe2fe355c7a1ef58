"""Reductions."""

from __future__ import annotations

from gradients.rows import NEWEST, OLD, Row, ints, row

OPS = {
    "ReduceSum": 13, "ReduceMean": 18, "ReduceMax": 18, "ReduceMin": 18, "ReduceL1": 18, "ReduceL2": 18,
    "ReduceLogSum": 18, "ReduceLogSumExp": 18, "ReduceSumSquare": 18,
}  # fmt: skip
"""Each reduction and the opset since which its axes are an input."""
X = "float[N,3,H,W] x"
SIZES = {"H": 4, "W": 5}


def rows_of(op: str, since: int) -> list[Row]:
    options = {**SIZES, "domains": {"x": (0.3, 3.0)} if op == "ReduceLogSum" else {}}
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


ROWS = [row_ for op, since in OPS.items() for row_ in rows_of(op, since)]
