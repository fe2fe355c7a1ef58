"""All rows."""

from __future__ import annotations

from helpers.gradients import (
    cases_conv,
    cases_einsum,
    cases_elementwise,
    cases_functions,
    cases_indexing,
    cases_linear,
    cases_movement,
    cases_norm,
    cases_pool,
    cases_quantised,
    cases_reduce,
    cases_regions,
    cases_resize,
    cases_sample,
)

FAMILIES = (
    cases_elementwise,
    cases_conv,
    cases_pool,
    cases_linear,
    cases_norm,
    cases_reduce,
    cases_movement,
    cases_resize,
    cases_sample,
    cases_regions,
    cases_indexing,
    cases_einsum,
    cases_quantised,
)
ROWS = [row for family in FAMILIES for row in family.ROWS]
FUNCTION_ROWS = cases_functions.ROWS
"""The operators that are differentiated through the standard's function bodies."""
