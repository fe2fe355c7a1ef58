"""This module suggests names that are close to one that does not exist, as parts of messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(wanted: str, names: Iterable[str], count: int = 3, likeness: float = 0.6) -> list[str]:
    """Return at most `count` names that are most like the wanted one, best first.

    Args:
        wanted: the name that was given.
        names: the names that exist.
        count: how many are returned at most.
        likeness: how much a name must be like the wanted one, 0 (not at all) to 1 (the same).
    """
    return difflib.get_close_matches(wanted, list(dict.fromkeys(names)), count, likeness)


def suggestion(wanted: str, names: Iterable[str], count: int = 3) -> str:
    """Return the question ` (did you mean 'a' or 'b'?)`, or an empty text where no name is close."""
    near = nearest(wanted, names, count, 0.5)
    return f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""


def suggestion_of_few(wanted: str, known: Iterable[str]) -> str:
    """Return the question `; did you mean a or b?`, or all names where none is close; for a handful of names."""
    known = list(known)
    near = nearest(wanted.lower(), known)
    return f"; did you mean {' or '.join(near)}?" if near else f"; known are {', '.join(known)}"
