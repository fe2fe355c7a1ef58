"""Matrix products."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from helpers.gradients.rows import NEWEST, OLD, Row, row

SHAPES = [
    "float[N,3] a, float[3,4] b",
    "float[N,5,3] a, float[3,4] b",
    "float[5,3] a, float[N,3,4] b",
    "float[N,1,5,3] a, float[2,3,4] b",
    "float[1,2,N,3] a, float[6,1,3,4] b",
    "float[A,2,5,3] a, float[B,C,3,4] b",
    "float[3] a, float[3] b",
    "float[3] a, float[N,3,4] b",
    "float[N,5,3] a, float[3] b",
    "float[3] a, float[3,4] b",
    "float[N,3] a, float[3] b",
    "float[P,Q,H,W] a, float[P,Q,W,H] b",
]
TRANSFORMS = [
    ("float[N,H,W,1] x", 1, ""),
    ("float[N,H,W,2] x", 2, ""),
    ("float[N,H,W,2] x", 1, "inverse = 1"),
    ("float[N,H,W,1] x", 2, "onesided = 1"),
    ("float[N,W,1] x", 1, "onesided = 1"),
]
"""Input, axis and attributes of Fourier transforms."""


def transforms(inputs: str, axis: int, attributes: str) -> list[Row]:
    """A Fourier transform whose axis is an attribute, and one whose axis is an input; and both with another length."""
    listed = f"axis = {axis}, {attributes}".rstrip(", ")
    length = "n = Constant<value = int64 {6}>() "
    at = f"a = Constant<value = int64 {{{axis}}}>() "
    return [
        row("DFT", inputs, f"y = DFT<{listed}>(x)", opsets=(17,), H=4, W=5),
        row("DFT", inputs, length + f"y = DFT<{listed}>(x, n)", opsets=(17,), H=4, W=5),
        row("DFT", inputs, at + f"y = DFT<{attributes}>(x, , a)".replace("<>", ""), opsets=(20, NEWEST), H=4, W=5),
        row("DFT", inputs, at + length + f"y = DFT<{attributes}>(x, n, a)".replace("<>", ""), opsets=(20,), H=4, W=5),
    ]


ROWS: list[Row] = [
    *(row("MatMul", shapes, "y = MatMul(a, b)", A=1, B=3, C=1, P=2, Q=3, H=4, W=5, opsets=(OLD, 17)) for shapes in SHAPES),
    row("MatMul", SHAPES[0], "y = MatMul(a, b)", wrt=("a",), opsets=(OLD, NEWEST)),
    row("MatMul", SHAPES[1], "y = MatMul(a, b)", wrt=("b",)),
    *(row("Gemm", f"float[{'3,N' if ta else 'N,3'}] a, float[{'4,3' if tb else '3,4'}] b, float[{c}] c",
          f"y = Gemm<transA = {ta}, transB = {tb}, alpha = 0.7, beta = 1.3>(a, b, c)", opsets=(OLD, 17))
      for ta in (0, 1) for tb in (0, 1) for c in ("N,4", "4", "N,1")),
    row("Gemm", "float[N,3] a, float[3,4] b", "y = Gemm(a, b)", opsets=(OLD, NEWEST)),
    row("Gemm", "float[N,3] a, float[3,4] b, float[A] c", "y = Gemm(a, b, c)", A=1, opsets=(OLD, 17)),
    row("Gemm", "float[N,3] a, float[3,4] b, float c", "y = Gemm(a, b, c)", wrt=("c",)),
    row("Gemm", "float[N,3] a, float[3,4] b, float c", "y = Gemm<transA = 0>(a, b, c)", wrt=("b",)),
    *(case for transform in TRANSFORMS for case in transforms(*transform)),
    row("DFT", "float[N,H,W,2] x", "y = DFT(x)", opsets=(17, 20), H=4, W=5),
    # Real numbers from half a spectrum; the reference evaluator knows only one of the two.
    row("DFT", "float[N,H,W,2] x", "a = Constant<value = int64 {2}>() n = Constant<value = int64 {8}>() y = DFT<inverse = 1, onesided = 1>(x, n, a)",
        opsets=(20,), oracle="linear", H=4, W=5),
    *(row("STFT", f"float[N,9,{parts}] x", f"s = Constant<value = int64 {{2}}>() {given} y = STFT<onesided = {half}>(x, s{names})",
          opsets=(17, NEWEST), variants=("static", "symbolic", "batch", "constant", "unknown-flat"))
      for parts, half in ((1, 1), (1, 0), (2, 0))
      for given, names in (("n = Constant<value = int64 {4}>()", ", , n"),
                           ("w = Constant<value = float[3] {0.5, 1.0, 0.25}>()", ", w"))),
]  # fmt: skip
