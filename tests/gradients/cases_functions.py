"""Operators without a rule of their own: the gradient goes through the function body that the standard gives them."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from gradients.rows import NEWEST, Row, ints, row

HEADS = "float[N,2,H,4] q, float[N,2,W,4] k, float[N,2,W,3] v"
TOKENS = "float[N,H,8] q, float[N,W,4] k, float[N,W,6] v"
SIZES = {"H": 4, "W": 5}
# A scale of 1/4 where the head's size gives no square: the standard's body takes its root in float32.
ROWS: list[Row] = [
    row("Attention", HEADS, "y = Attention(q, k, v)", opsets=(23, NEWEST), **SIZES),
    row("Attention", HEADS, "y = Attention<is_causal = 1, scale = 0.25>(q, k, v)", opsets=(NEWEST,), **SIZES),
    row("Attention", f"{HEADS}, float[H,W] m", "y = Attention<scale = 0.25>(q, k, v, m)", opsets=(NEWEST,), **SIZES),
    row("Attention", TOKENS.replace("W,6", "W,3"), "y = Attention<q_num_heads = 2, kv_num_heads = 1>(q, k, v)", opsets=(NEWEST,), **SIZES),
    row("Attention", "float[N,H,8] q, float[N,W,8] k", "y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, k)", opsets=(NEWEST,), **SIZES),
    row("Attention", "float[N,2,H,4] x", "a = Attention(x, x, x) b = Attention(a, x, a) y = Add(a, b)", opsets=(NEWEST,), **SIZES),
    row("RotaryEmbedding", "float[N,2,H,4] x, float[N,H,2] c, float[N,H,2] s", "y = RotaryEmbedding(x, c, s)", opsets=(23, NEWEST), **SIZES),
    row("CenterCropPad", "float[N,3,H,W] x", ints("s", 3, 7) + "y = CenterCropPad<axes = [2, 3]>(x, s)", opsets=(18, NEWEST), **SIZES),
]  # fmt: skip
