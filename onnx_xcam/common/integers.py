"""This module knows the ranges of the integer types that values are quantised to."""

from __future__ import annotations

from typing import Any

import numpy as np

FEW_BITS = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}
"""The smallest and the largest number of the types that numpy itself lacks, by name."""


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int] | None:
    """Return the smallest and the largest number of an integer type of 2 bits or more, None for other types."""
    if dtype.name in FEW_BITS:
        return FEW_BITS[dtype.name]
    if dtype.kind not in "iu":
        return None
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)
