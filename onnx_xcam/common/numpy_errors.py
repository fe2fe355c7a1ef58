"""This module lists what NumPy raises at damaged files of its own."""

from __future__ import annotations

import tokenize

DAMAGED_NPY = (
    ValueError,
    EOFError,
    SyntaxError,
    TypeError,
    OverflowError,
    MemoryError,
    RecursionError,
    tokenize.TokenError,
)
"""What NumPy raises at .npy files that are damaged; it also tries to read their headers as Python 2 wrote them."""
