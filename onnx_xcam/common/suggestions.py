"""Names that are close to one that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(wanted: str, names: Iterable[str], count: int = 3) -> str:
    """`; did you mean 'a' or 'b'?` as a part of a message, or nothing."""
    near = difflib.get_close_matches(wanted, list(dict.fromkeys(names)), count, 0.5)
    return f" (did you mean {' or '.join(repr(name) for name in near)}?)" if near else ""
