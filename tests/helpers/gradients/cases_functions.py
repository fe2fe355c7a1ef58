"""Operators without a rule of their own: the gradient goes through the function body that the standard gives them."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

import numpy as np

from helpers.gradients.rows import NEWEST, Row, ints, row

HEADS = "float[N,2,H,4] q, float[N,2,W,4] k, float[N,2,W,3] v"
TOKENS = "float[N,H,8] q, float[N,W,4] k, float[N,W,6] v"
GROUPED = "float[N,4,H,8] q, float[N,2,W,8] k, float[N,2,W,6] v"
"""Two heads of queries for each head of keys and values."""
PAST = f"{GROUPED}, float[H,8] m, float[N,2,3,8] p, float[N,2,3,6] r"
SIZES = {"H": 4, "W": 5}
# A scale of 1/4 where the head's size gives no square: the standard's body takes its root in float32.
ROWS: list[Row] = [
    row("Attention", HEADS, "y = Attention(q, k, v)", opsets=(23, NEWEST), **SIZES),
    row("Attention", HEADS, "y = Attention<is_causal = 1, scale = 0.25>(q, k, v)", opsets=(NEWEST,), **SIZES),
    row("Attention", f"{HEADS}, float[H,W] m", "y = Attention<scale = 0.25>(q, k, v, m)", opsets=(NEWEST,), **SIZES),
    row("Attention", TOKENS.replace("W,6", "W,3"), "y = Attention<q_num_heads = 2, kv_num_heads = 1>(q, k, v)", opsets=(NEWEST,), **SIZES),
    row("Attention", "float[N,H,8] q, float[N,W,8] k", "y = Attention<q_num_heads = 2, kv_num_heads = 2>(q, k, k)", opsets=(NEWEST,), **SIZES),
    row("Attention", "float[N,2,H,4] x", "a = Attention(x, x, x) b = Attention(a, x, a) y = Add(a, b)", opsets=(NEWEST,), **SIZES),
    row("Attention", GROUPED, "y = Attention<scale = 0.25>(q, k, v)", opsets=(23, NEWEST), **SIZES),
    row("Attention", GROUPED, "y = Attention<scale = 0.25, softcap = 2.0>(q, k, v)", opsets=(23, NEWEST), **SIZES),
    row("Attention", f"{GROUPED}, bool[H,W] m", "y = Attention<scale = 0.25>(q, k, v, m)", given={"m": np.array([[1, 0, 1, 1, 0]] * 4, bool)},
        opsets=(23, NEWEST), **SIZES),
    row("Attention", PAST, "y, a, b = Attention<scale = 0.25, is_causal = 1>(q, k, v, m, p, r)", opsets=(23, NEWEST), **SIZES),
    row("Attention", "float[N,H,32] q, float[N,W,16] k, float[N,W,12] v", "y = Attention<q_num_heads = 4, kv_num_heads = 2, scale = 0.25>(q, k, v)",
        opsets=(23,), **SIZES),
    row("RotaryEmbedding", "float[N,H,8] x, float[N,H,2] c, float[N,H,2] s", "y = RotaryEmbedding<num_heads = 2>(x, c, s)", opsets=(23,), **SIZES),
    row("RotaryEmbedding", "float[N,2,H,4] x, float[N,H,2] c, float[N,H,2] s", "y = RotaryEmbedding<interleaved = 1>(x, c, s)", opsets=(23,), **SIZES),
    row("RotaryEmbedding", "float[N,2,H,8] x, float[N,H,2] c, float[N,H,2] s", "y = RotaryEmbedding<rotary_embedding_dim = 4>(x, c, s)", opsets=(23,), **SIZES),
    row("RotaryEmbedding", "float[N,2,H,4] x, float[9,2] c, float[9,2] s, int64[N,H] p", "y = RotaryEmbedding(x, c, s, p)",
        given={"p": np.array([[0, 2, 4, 8], [1, 3, 5, 7]])}, opsets=(23,), **SIZES),
    row("RotaryEmbedding", "float[N,2,H,4] x, float[N,H,2] c, float[N,H,2] s", "y = RotaryEmbedding(x, c, s)", opsets=(23, NEWEST), **SIZES),
    row("CenterCropPad", "float[N,3,H,W] x", ints("s", 3, 7) + "y = CenterCropPad<axes = [2, 3]>(x, s)", opsets=(18, NEWEST), **SIZES),
]  # fmt: skip
