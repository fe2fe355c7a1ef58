"""Names that are close to one that does not exist, as parts of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wanted: str, names: Iterable[str], count: int = 3, likeness: float = 0.6) -> list[str]:
    """The names most like the one that was given, best first; none that is less like it than `likeness` (0 to 1)."""
    return difflib.get_close_matches(wanted, list(dict.fromkeys(names)), count, likeness)


def suggestion(wanted: str, names: Iterable[str], count: int = 3) -> str:
    """The question ` (did you mean 'a' or 'b'?)`, or nothing where no name is close."""
    near = nearest(wanted, names, count, 0.5)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def suggestion_of_few(wanted: str, known: Iterable[str]) -> str:
    """The question `; did you mean a or b?`, or all names where none is close: of a handful of settings."""
    known = list(known)
    near = nearest(wanted.lower(), known)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known are {', '.join(known)}"
