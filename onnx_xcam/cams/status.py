"""The status of a map, `xcam_status` of the contract: its words, and how numpy tells it of maps that no file made.

A file that tells it computes it from the same three facts, in `surgery/tail/cam.py`: whether map and score are finite,
whether the gradient is zero everywhere, whether the map is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract


def status_words(status: int) -> str:
    """What a status means, in words; its number where a later version of the contract has added it."""
    return contract.STATUS_TEXT.get(status, f"status {status}")


def map_status(
    maps: NDArray[np.float32], *, finite: NDArray[np.bool_] | None = None, flat: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """The status of maps `[..., h, w]`, int64 `[...]`.

    Args:
        maps: after the ReLU, if there is one.
        finite: whether the map before the ReLU and its score are finite, bool `[...]`; None reads it off the maps.
        flat: whether the gradient is zero everywhere, bool `[...]`; None where nothing tells.
    """
    good = np.isfinite(maps).all(axis=(-2, -1)) if finite is None else finite
    found = np.where(maps.any(axis=(-2, -1)), contract.GOOD, contract.MAP_ZERO)
    found = found if flat is None else np.where(flat, contract.GRADIENT_ZERO, found)
    return np.where(good, found, contract.NOT_FINITE).astype(np.int64)


def fused_status(fused: NDArray[np.float32], of_layers: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """The status of maps `[N, K, h, w]` that were made of several layers' maps, given the status `[N, K]` of these."""
    finite = np.maximum.reduce(of_layers) != contract.NOT_FINITE
    return map_status(fused, finite=finite)
