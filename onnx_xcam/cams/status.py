"""This module computes the status of maps (`xcam_status` of the contract) with numpy and puts it into words.

An instrumented model computes the status from the same three facts, in `surgery/tail/cam.py`: whether map and score are
finite, whether the gradient is zero everywhere, and whether the map is zero everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract


def status_words(status: int) -> str:
    """Return what a status means in words; for one that a later version of the contract added, its number."""
    return contract.STATUS_TEXT.get(status, f"status {status}")


def map_status(
    maps: NDArray[np.float32], *, finite: NDArray[np.bool_] | None = None, flat: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Return the status of maps `[..., h, w]`, int64 `[...]`.

    Args:
        maps: after the ReLU, if there is one.
        finite: whether the map before the ReLU and its score are finite, bool `[...]`; None reads it off the maps.
        flat: whether the gradient is zero everywhere, bool `[...]`; None where that is not known.
    """
    good = np.isfinite(maps).all(axis=(-2, -1)) if finite is None else finite
    status = np.where(maps.any(axis=(-2, -1)), contract.GOOD, contract.MAP_ZERO)
    status = status if flat is None else np.where(flat, contract.GRADIENT_ZERO, status)
    return np.where(good, status, contract.NOT_FINITE).astype(np.int64)


def fused_status(fused: NDArray[np.float32], of_layers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return the status `[N, K]` of fused maps `[N, K, h, w]`, given the status `[N, K]` of each layer's maps."""
    finite = np.maximum.reduce(of_layers) != contract.NOT_FINITE
    return map_status(fused, finite=finite)
