"""This module checks the arguments of public functions and refuses wrong ones in a sentence that names them.

Truth values are not taken for numbers, NumPy's numbers are taken, and a text is never taken for a list.
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


def short_repr(value: object) -> str:
    """Return a wrong value as a message shows it: its `repr`, shortened."""
    return _SHORT.repr(value)


def is_whole(value: object) -> bool:
    """Tell whether a value is a whole number of Python or NumPy; neither a truth value nor 2.0 is one."""
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
    """Return the value of the argument `name`, a whole number of at least `least`, as an int.

    Raises:
        XcamError: of the class `failure`: the value is no whole number, or is smaller.
    """
    if not is_whole(value):
        raise failure(f"{name} is {short_repr(value)}; it must be a whole number, at least {least}.")
    if value < least:
        raise failure(f"{name} is {value}; it must be at least {least}.")
    return operator.index(value)


def index(name: str, value: Any, count: int, failure: type[XcamError] = XcamError) -> int:
    """Return the value of the argument `name`, an index into `count` things; -1 is the last one, as in Python.

    Raises:
        XcamError: of the class `failure`: the value is no whole number, or out of range.
    """
    if not is_whole(value) or not -count <= value < count:
        raise failure(f"{name} is {short_repr(value)}; it must be a whole number, 0 to {count - 1}.")
    return operator.index(value)


def share(name: str, value: Any) -> float:
    """Return the value of the argument `name`, a number within 0..1, as a float.

    Raises:
        XcamError: the value is no number, or outside of 0..1.
    """
    try:
        number = math.nan if isinstance(value, bool | str | bytes) or _axes(value) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number <= 1:
        raise XcamError(f"{name} is {short_repr(value)}; it must be a number from 0 to 1.")
    return number


def flag(name: str, value: Any) -> bool:
    """Return the value of the argument `name`, which is True or False.

    Raises:
        XcamError: the value is no truth value of Python or NumPy.
    """
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):  # NumPy's own
        raise XcamError(f"{name} is {short_repr(value)}; it must be True or False.")
    return bool(value)


def text(name: str, value: Any, failure: type[XcamError] = XcamError) -> str:
    """Return the value of the argument `name`, which is a text.

    Raises:
        XcamError: of the class `failure`: the value is no text.
    """
    if not isinstance(value, str):
        raise failure(f"{name} is {short_repr(value)}; it must be a text.")
    return value


def texts(name: str, value: Any, failure: type[XcamError] = XcamError) -> tuple[str, ...]:
    """Return the value of the argument `name`, one text or a list of texts, as a tuple.

    Raises:
        XcamError: of the class `failure`: the value is neither.
    """
    if isinstance(value, str):
        return (value,)
    items = several(name, value, "texts, or a text", failure)
    if not all(isinstance(item, str) for item in items):
        raise failure(f"{name} is {short_repr(value)}; it must be a list of texts, or a text.")
    return tuple(items)


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """Return the value of the argument `name`, which is one of the texts in `choices`.

    Raises:
        XcamError: the value is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise XcamError(f"{name} is one of {', '.join(choices)}, not {short_repr(value)}.")
    return value


def several(name: str, value: Any, what: str, failure: type[XcamError] = XcamError) -> list[Any]:
    """Return the items of the argument `name`, a list or any other iterable with an order.

    Raises:
        XcamError: of the class `failure`: the value is a single thing, a text, a dict or a set.
    """
    if not is_listed(value):
        raise failure(f"{name} is {short_repr(value)}; it must be a list of {what}.")
    return list(value)


def is_listed(value: object) -> bool:
    """Tell whether a value is an iterable with an order: no text, bytes, path, dict, set or scalar array."""
    unlike = isinstance(value, str | bytes | bytearray | memoryview | Mapping | set | frozenset | os.PathLike)
    return isinstance(value, Iterable) and not unlike and (not hasattr(value, "ndim") or _axes(value) > 0)


def _axes(value: object) -> int:
    """Return the number of axes of an array, 0 for anything else."""
    return int(getattr(value, "ndim", 0))


def mapping(name: str, value: Any, what: str, failure: type[XcamError] = XcamError) -> Mapping[Any, Any]:
    """Return the value of the argument `name`, a dict or another mapping.

    Raises:
        XcamError: of the class `failure`: the value is no mapping.
    """
    if not isinstance(value, Mapping):
        raise failure(f"{name} is {short_repr(value)}; it must be a dict of {what}.")
    return value


def path(name: str, value: Any, failure: type[XcamError] = XcamError) -> Path:
    """Return the value of the argument `name`, a text or a path object that a file can have, as a Path.

    Raises:
        XcamError: of the class `failure`: the value is no such path: of another type, empty, or with a zero byte.
    """
    if isinstance(value, str | os.PathLike):
        try:
            encoded = os.fsencode(value)
        except ValueError:  # half a surrogate pair
            encoded = b""
        if encoded and b"\0" not in encoded and isinstance(os.fspath(value), str):
            return Path(value)
    raise failure(f"{name} is {short_repr(value)}; it must be a path.")
