"""The maps of `bench.py`'s contenders are held to these formulas, in numpy; A [N,C,S] and G [N,K,C,S]."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnx_xcam import contract


def lined(
    a: np.ndarray, g: np.ndarray, layout: str, grid: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """A [N,...] and G [N,K,...] in a layer's layout as [N,C,S] and [N,K,C,S], and the grid's (h, w)."""
    perm = [layout.find(axis) for axis in ("NCT" if grid else "NCHW")]
    a, g = a.transpose(perm), g.transpose([0, 1, *(axis + 1 for axis in perm[1:])])
    part = (..., contract.Grid(*grid).tokens) if grid else (...,)
    size = tuple(grid[:2]) if grid else a.shape[2:]
    return a[part].reshape(*a.shape[:2], -1), g[part].reshape(*g.shape[:3], -1), size


_EPSILON = 1e-8
"""As the peers have it: a channel that is zero everywhere gets the weight 0."""


def plain_xgrad(a: np.ndarray, g: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """XGrad-CAM as the paper has it, which is how the peers compute it on maps of any sign; [N,K,h,w] before a ReLU."""
    weights = (g * a[:, None]).sum(-1) / (a.sum(-1) + _EPSILON)[:, None]
    return (weights @ a).reshape(*g.shape[:2], *grid)


def grad_cam(a: np.ndarray, g: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Grad-CAM, [N,K,h,w] before the ReLU."""
    return (g.mean(-1) @ a).reshape(*g.shape[:2], *grid)


def relu_of(formula: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The formula with a ReLU behind it."""
    return lambda *arguments: np.maximum(formula(*arguments), 0)


def scaled(cams: np.ndarray) -> np.ndarray:
    """Maps scaled to 0..1, each on its own."""
    low = cams.min((-2, -1), keepdims=True)
    return (cams - low) / ((cams - low).max((-2, -1), keepdims=True) + 1e-8)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    """The cosine between two arrays, as vectors."""
    a, b = first.ravel().astype(np.float64), second.ravel().astype(np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
