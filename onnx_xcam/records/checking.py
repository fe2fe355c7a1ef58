"""This module tells whether plain data, as JSON gives it, is of a record's type."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import UnionType
from typing import Any, Literal, NotRequired, TypeAlias, Union, get_args, get_origin, get_type_hints, is_typeddict

Check: TypeAlias = Callable[[Any], bool]
"""A function that tells whether a value is of a type."""


def fits(value: object, kind: Any) -> bool:
    """Tell whether a value is of a type: plain, a list, a dict with text keys, a union, a literal or a TypedDict.

    A whole number counts as a float, because JSON does not distinguish them; true and false do not count as numbers. A
    record may have fields that its type does not know, because later versions may add some.
    """
    return check_of(kind)(value)


@functools.cache
def check_of(kind: Any) -> Check:
    """Return a function that tells whether a value is of a type; it is made once for each type, for speed."""
    if is_typeddict(kind):
        return _record(kind)
    if get_origin(kind) is not None:
        return _generic(get_origin(kind), get_args(kind))
    if kind is float:
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return lambda value: isinstance(value, int) and not isinstance(value, bool)
    return lambda value: isinstance(value, kind)


def _record(kind: Any) -> Check:
    hints = get_type_hints(kind, include_extras=True)
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    checks = {name: check_of(hint) for name, hint in hints.items()}

    def check(value: Any) -> bool:
        return isinstance(value, dict) and all(
            one(value[name]) if name in value else name in optional for name, one in checks.items()
        )

    return check


def _generic(origin: Any, parts: tuple[Any, ...]) -> Check:
    if origin is Literal:
        return lambda value: value in parts
    checks = [check_of(part) for part in parts]
    if origin in (Union, UnionType):
        return lambda value: any(check(value) for check in checks)
    if origin is list:
        return lambda value: isinstance(value, list) and all(map(checks[0], value))
    if origin is dict:
        return lambda value: isinstance(value, dict) and all(map(checks[1], value.values()))
    assert origin is NotRequired, origin
    return checks[0]
