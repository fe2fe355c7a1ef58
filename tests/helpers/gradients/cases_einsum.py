"""Einsum."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from helpers.gradients.rows import NEWEST, Row, row

AB = "float[N,H,W] a, float[N,W,3] b"
EQUATIONS = [
    (AB, "nhw,nwc->nhc"),
    (AB, "nhw, nwc -> cn"),
    (AB, "nhw,nwc"),  # the result: the letters met once, in alphabetical order
    (AB, "nhw,nwc->"),
    (AB, "...hw,...wc->...hc"),
    (AB, "...w,nwc->...c"),
    ("float[N,2,H,W] a, float[W,3] b", "...w,wc->...c"),
    ("float[N,2,H,W] a, float[N,1,H,W] b", "...,..."),
    ("float[N,2,H,W] a, float[2,W,H] b", "b...ij,...ji->...b"),
    ("float[N,1,H,W] a, float[1,3,W,H] b", "...ij,...jk->...ik"),
    ("float[N,H,W] a, float[N,W] b", "nhw,nw->nw"),  # h is summed, and only a has it
    ("float[N,H] a, float[N,1] b", "nh,nh->nh"),
    ("float[N,H] a, float[W] b, float[3,H] c", "nh,w,ch->nwc"),
    ("float[N,2,H,3] a, float[N,2,W,3] b", "bnqd,bnkd->bnqk"),
]
SIZES = {"H": 4, "W": 5}
ROWS: list[Row] = [
    *(row("Einsum", inputs, f'y = Einsum<equation = "{equation}">({", ".join("abc"[: inputs.count("float")])})', opsets=(12, NEWEST), **SIZES)
      for inputs, equation in EQUATIONS),
    *(row("Einsum", "float[N,H,W] x", f'y = Einsum<equation = "{equation}">(x)', opsets=(12, 17), **SIZES)
      for equation in ("nhw->whn", "nhw->h", "...w->w...", "abc", "n...->...")),
    *(row("Einsum", "float[N,H,H] a, float[N,H] b", f'y = Einsum<equation = "{equation}">(a, b)', opsets=(12, 17), **SIZES)
      for equation in ("nhh,nh->nh", "nhh,nw->nw", "nhh,ni->hi")),
    row("Einsum", "float[N,H,H] a, float[N,H] b", 'y = Einsum<equation = "nhh,nh->nh">(a, b)', wrt=("b",), opsets=(12,), **SIZES),
]  # fmt: skip
