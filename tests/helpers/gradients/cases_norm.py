"""Normalisation."""

# ruff: noqa: E501  a row reads best as one line
from __future__ import annotations

from helpers.gradients.rows import NEWEST, OLD, Row, row

BATCH = "float[N,3,H,W] x, float[3] s, float[3] b, float[3] m, float[3] v"
SIZES = {"H": 4, "W": 5}
POSITIVE = {"v": (0.3, 3.0)}

ROWS: list[Row] = [
    row("BatchNormalization", BATCH, "y = BatchNormalization(x, s, b, m, v)", opsets=(OLD, 14, 15, NEWEST), wrt=("x",), domains=POSITIVE, **SIZES),
    row("BatchNormalization", BATCH, "y = BatchNormalization<epsilon = 0.1>(x, s, b, m, v)", wrt=("x",), domains=POSITIVE, **SIZES),
    row("BatchNormalization", "float[N,3] x, float[3] s, float[3] b, float[3] m, float[3] v", "y = BatchNormalization(x, s, b, m, v)",
        wrt=("x",), domains=POSITIVE),
    row("BatchNormalization", BATCH, "y, a, c = BatchNormalization<training_mode = 1>(x, s, b, m, v)", opsets=(15, NEWEST), wrt=("x",), domains=POSITIVE, **SIZES),
    row("InstanceNormalization", "float[N,3,H,W] x, float[3] s, float[3] b", "y = InstanceNormalization(x, s, b)", opsets=(OLD, 22), **SIZES),
    row("InstanceNormalization", "float[N,3,W] x, float[3] s, float[3] b", "y = InstanceNormalization<epsilon = 0.2>(x, s, b)", W=5),
    row("LayerNormalization", "float[N,H,W] x, float[W] s, float[W] b", "y = LayerNormalization(x, s, b)", opsets=(17, NEWEST), **SIZES),
    row("LayerNormalization", "float[N,H,W] x, float[W] s", "y = LayerNormalization<epsilon = 0.2>(x, s)", **SIZES),
    row("LayerNormalization", "float[N,H,W] x, float[W] s", "y = LayerNormalization<axis = 2>(x, s)", wrt=("x",), **SIZES),
    row("LayerNormalization", "float[N,H,W] x, float[H,W] s, float[H,W] b", "y = LayerNormalization<axis = 1>(x, s, b)", **SIZES),
    row("LayerNormalization", "float[N,H,W] x, float[N,H,W] s, float[N,H,W] b", "y = LayerNormalization<axis = 0>(x, s, b)", **SIZES),
    row("MeanVarianceNormalization", "float[N,3,H,W] x", "y = MeanVarianceNormalization(x)", opsets=(OLD, 17), **SIZES),
    row("MeanVarianceNormalization", "float[N,3,H,W] x", "y = MeanVarianceNormalization<axes = [2, -1]>(x)", opsets=(13,), **SIZES),
    *(row("GroupNormalization", f"float[N,6,H,W] x, float[{n}] s, float[{n}] b", f"y = GroupNormalization<num_groups = 3{epsilon}>(x, s, b)",
          opsets=(opset,), **SIZES) for n, opset in ((6, 21), (6, NEWEST)) for epsilon in ("", ", epsilon = 0.2")),
    row("GroupNormalization", "float[N,C,W] x, float[C] s, float[C] b", "y = GroupNormalization<num_groups = 2>(x, s, b)", opsets=(21,), C=4, W=5),
    row("GroupNormalization", "float[N,6] x, float[6] s, float[6] b", "y = GroupNormalization<num_groups = 2>(x, s, b)", opsets=(21,)),
    row("RMSNormalization", "float[N,H,W] x, float[W] s", "y = RMSNormalization(x, s)", opsets=(23, NEWEST), **SIZES),
    row("RMSNormalization", "float[N,H,W] x, float[W] s", "y = RMSNormalization<epsilon = 0.2>(x, s)", wrt=("x",), opsets=(23,), **SIZES),
    row("RMSNormalization", "float[N,H,W] x, float[H,W] s", "y = RMSNormalization<axis = 1>(x, s)", opsets=(23,), **SIZES),
    row("RMSNormalization", "float[N,H,W] x, float[1] s", "y = RMSNormalization(x, s)", opsets=(23,), **SIZES),
    *(row("LpNormalization", "float[N,H,W] x", f"y = LpNormalization<{attributes}>(x)".replace("<>", ""), opsets=(OLD, 22), **SIZES)
      for attributes in ("", "p = 1", "p = 2, axis = 0", "p = 1, axis = -2")),
    row("LRN", "float[N,5,H,W] x", "y = LRN<size = 3>(x)", opsets=(OLD, NEWEST), **SIZES),
    row("LRN", "float[N,5,H,W] x", "y = LRN<size = 5, alpha = 0.3, beta = 0.6, bias = 2.0>(x)", **SIZES),
    row("LRN", "float[N,C,H,W] x", "y = LRN<size = 5, alpha = 0.3>(x)", C=4, **SIZES),
]  # fmt: skip
