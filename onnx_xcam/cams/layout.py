"""This module brings activations and gradients from a model's own layout into the form that the CAM formulas take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.contract import Grid, Layout, images_first


def lined_up(
    activations: NDArray[Any], gradients: NDArray[Any], layout: Layout, grid: Grid | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the activations as `[N, C, S]` and the gradients as `[N, K, C, S]`.

    Args:
        activations: `[N, ...]`, as `xcam_activations` gives them.
        gradients: `[N, K, ...]`, as `xcam_gradients` gives them.
        layout: what the axes of the layer mean.
        grid: where the picture's tokens stand in a layer of tokens, whose other tokens are left out; else None.
    """
    layout = images_first(layout)
    perm = [layout.find(axis) for axis in ("NCT" if grid else "NCHW")]
    part = (..., grid.tokens) if grid else (...,)
    a = activations.transpose(perm)[part]
    g = gradients.transpose([0, 1, *(axis + 1 for axis in perm[1:])])[part]
    return a.reshape(*a.shape[:2], -1), np.asarray(g.reshape(*g.shape[:3], -1))
