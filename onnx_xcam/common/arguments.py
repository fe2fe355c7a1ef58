"""Arguments of the public functions: of the right kind, or refused in a sentence that names them.

Python's truth values are no numbers here, NumPy's numbers are numbers, and a text is never taken for a list.
"""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_xcam.errors import XcamError

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def shown(value: object) -> str:
    """A wrong value in a message: short, whatever it is."""
    return _SHORT.repr(value)


def is_whole(value: object) -> bool:
    """Whether a value is a whole number: of Python or NumPy, but neither a truth value nor 2.0."""
    if isinstance(value, bool | str | bytes | float) or _axes(value):
        return False
    if getattr(getattr(value, "dtype", None), "kind", "") == "b":  # NumPy 1 takes its truth values for 0 and 1
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return False
    return True


def whole(name: str, value: Any, least: int, failure: type[XcamError] = XcamError) -> int:
    """A whole number that is at least so large.

    Raises:
        XcamError: of the class `failure`: it is something else.
    """
    if not is_whole(value):
        raise failure(f"{name} is {shown(value)}; it must be a whole number, at least {least}.")
    if value < least:
        raise failure(f"{name} is {value}; it must be at least {least}.")
    return operator.index(value)


def index(name: str, value: Any, count: int, failure: type[XcamError] = XcamError) -> int:
    """The place of one of so many things; -1 is the last one, as in Python.

    Raises:
        XcamError: of the class `failure`: it is something else, or there is no such place.
    """
    if not is_whole(value) or not -count <= value < count:
        raise failure(f"{name} is {shown(value)}; it must be a whole number, 0 to {count - 1}.")
    return operator.index(value)


def share(name: str, value: Any) -> float:
    """A number within 0..1.

    Raises:
        XcamError: it is something else.
    """
    try:
        number = math.nan if isinstance(value, bool | str | bytes) or _axes(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise XcamError(f"{name} is {shown(value)}; it must be a number from 0 to 1.")
    return number


def flag(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        XcamError: it is something else.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):  # NumPy's own
        raise XcamError(f"{name} is {shown(value)}; it must be True or False.")
    return bool(value)


def text(name: str, value: Any, failure: type[XcamError] = XcamError) -> str:
    """A text.

    Raises:
        XcamError: of the class `failure`: it is something else.
    """
    if not isinstance(value, str):
        raise failure(f"{name} is {shown(value)}; it must be a text.")
    return value


def texts(name: str, value: Any, failure: type[XcamError] = XcamError) -> tuple[str, ...]:
    """One text or a list of them, as a tuple.

    Raises:
        XcamError: of the class `failure`: it is something else.
    """
    if isinstance(value, str):
        return (value,)
    found = several(name, value, "texts", failure)
    if not all(isinstance(item, str) for item in found):
        raise failure(f"{name} is {shown(value)}; it must be a text or a list of texts.")
    return tuple(found)


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of these texts.

    Raises:
        XcamError: it is something else.
    """
    if not isinstance(value, str) or value not in choices:
        raise XcamError(f"{name} is one of {', '.join(choices)}, not {shown(value)}.")
    return value


def several(name: str, value: Any, what: str, failure: type[XcamError] = XcamError) -> list[Any]:
    """The things in a list, or in anything else that has an order.

    Raises:
        XcamError: of the class `failure`: it is a single thing, a text, a dict or a set.
    """
    if not is_listed(value):
        raise failure(f"{name} is {shown(value)}; it must be a list of {what}.")
    return list(value)


def is_listed(value: object) -> bool:
    """Whether a value holds several things in an order of their own."""
    unlike = isinstance(value, str | bytes | bytearray | memoryview | Mapping | set | frozenset | os.PathLike)
    return isinstance(value, Iterable) and not unlike and (not hasattr(value, "ndim") or _axes(value) > 0)


def _axes(value: object) -> int:
    """How many axes an array has; 0 for anything else."""
    return int(getattr(value, "ndim", 0))


def mapping(name: str, value: Any, what: str, failure: type[XcamError] = XcamError) -> Mapping[Any, Any]:
    """A dict, or what is like one.

    Raises:
        XcamError: of the class `failure`: it is something else.
    """
    if not isinstance(value, Mapping):
        raise failure(f"{name} is {shown(value)}; it must be a dict of {what}.")
    return value


def path(name: str, value: Any, failure: type[XcamError] = XcamError) -> Path:
    """A path that a file can have.

    Raises:
        XcamError: of the class `failure`: it is none.
    """
    if isinstance(value, str | os.PathLike):
        try:
            encoded = os.fsencode(value)
        except ValueError:  # half a surrogate pair
            encoded = b""
        if encoded and b"\0" not in encoded and isinstance(os.fspath(value), str):
            return Path(value)
    raise failure(f"{name} is {shown(value)}; it must be a path.")
