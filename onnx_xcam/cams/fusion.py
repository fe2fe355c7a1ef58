"""This module puts the maps of several layers together into one.

Each map is divided by its maximum first: how large the values of a map are depends on how fine it is and, with most
methods, on the size of the gradients of its layer. The maps are then resized to one grid and combined.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, Literal, get_args

from onnx_xcam.cams.arrays import Arrays
from onnx_xcam.common.arguments import short_repr
from onnx_xcam.errors import XcamError

Fusion = Literal["mean", "max", "product"]
"""A Fusion says how maps are combined: by their mean (what any layer shows), their maximum (where one of them is
strong) or their product (where all agree)."""
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)


def fused(xp: Arrays, maps: Sequence[Any], size: Sequence[Any], how: Fusion) -> Any:
    """Combine the maps of several layers into one.

    Args:
        xp: the array library that the maps belong to.
        maps: `[N, K, h, w]` each, of several layers; signed ones for "mean" only.
        size: height and width of the result.
        how: "mean", "max" or "product".

    Returns:
        `[N, K, *size]`, within -1..1; 0..1 of maps after a ReLU.
    """
    levelled = [xp.resize_linear(one / xp.safe_divisor(xp.map_max(xp.absolute(one))), size) for one in maps]
    if how == "mean":
        return reduce(operator.add, levelled) / len(levelled)
    if how == "max":
        return reduce(xp.maximum, levelled)
    return reduce(operator.mul, levelled)


def check_fusion(how: str | None, *, layers: int | None, relu: bool) -> None:
    """Make sure that maps can be combined as asked.

    Args:
        how: a `Fusion`, or None if the maps stay apart.
        layers: how many layers there are; None where that is not known yet.
        relu: whether the maps are without negative values.

    Raises:
        XcamError: `how` is no `Fusion`, does not suit signed maps, or there is only one layer.
    """
    if how is None:
        return
    if not isinstance(how, str) or how not in FUSIONS:
        raise XcamError(f"Layers are fused by {', '.join(FUSIONS)}, not by {short_repr(how)}.")
    if how != "mean" and not relu:
        raise XcamError(f"Signed maps are fused by their mean only; {how} is about what speaks for the class alone.")
    if layers is not None and layers < 2:
        raise XcamError("There is nothing to fuse: give several layers (the maps of a cut are one map already).")
