"""This package holds the gradient rules: one vector-Jacobian product (VJP) per operator, one file per family."""

from onnx_xcam.surgery.rules import (
    activation,
    conv,
    einsum,
    elementwise,
    indexing,
    linear,
    movement,
    norm,
    pool,
    quantised,
    reduce,
    regions,
    resize,
    sample,
)
from onnx_xcam.surgery.rules.registry import RULES, Vjp

FAMILIES = (
    activation,
    conv,
    einsum,
    elementwise,
    indexing,
    linear,
    movement,
    norm,
    pool,
    quantised,
    reduce,
    regions,
    resize,
    sample,
)
"""The modules that register rules when they are imported."""

__all__ = ["FAMILIES", "RULES", "Vjp"]
