"""This module states the options of `instrument`, `instrument_bytes` and `instrument_file` once, and divides them.

A test compares the two classes that they are divided into with the dictionary that editors and type checkers see.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypedDict, TypeVar, cast

from onnx_xcam.cams.fusion import Fusion
from onnx_xcam.common.suggestions import suggestion
from onnx_xcam.contract import ClassInput, Emit
from onnx_xcam.surgery.tail.options import TailOptions
from onnx_xcam.surgery.targets.analysis import Request

F = TypeVar("F", bound=Callable[..., Any])


class InstrumentOptions(TypedDict, total=False):
    """InstrumentOptions are what `instrument`, `instrument_bytes` and `instrument_file` share; see `instrument`."""

    layers: str | Sequence[str]
    score: str
    method: str
    emit: Sequence[Emit]
    class_input: ClassInput
    classes: Sequence[int] | None
    relu: bool
    fuse: Fusion | None
    picture: str
    task: str
    conf: float | None
    iou: float | None
    objects: Sequence[int] | None
    contrast: bool


OPTIONS: Mapping[str, Any] = {
    option.name: option
    for name in InstrumentOptions.__annotations__
    for option in (*fields(Request), *fields(TailOptions))
    if option.name == name
}
"""This table holds the dataclass field of each option, with its type and default, in the order of the documentation."""


def divided(options: InstrumentOptions) -> tuple[Request, TailOptions]:
    """Return the options divided into what is explained and what is added to the model."""
    given: Mapping[str, Any] = options
    request, tail = (
        {f.name: given[f.name] for f in fields(kind) if f.name in given} for kind in (Request, TailOptions)
    )
    return Request(**request), TailOptions(**tail)


def shows_options(function: F) -> F:
    """Let `help` and `inspect.signature` show the options of a function that takes them as `**options`.

    The function then raises a TypeError for an option that does not exist, and the error names it.
    """
    own = inspect.signature(function)
    stated = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=option.type)
        for name, option in OPTIONS.items()
    ]
    keywords = [p for p in stated if p.kind is inspect.Parameter.KEYWORD_ONLY]
    shown = own.replace(parameters=[*(p for p in stated if p not in keywords), *added, *keywords])

    @functools.wraps(function)
    def checked(*args: Any, **options: Any) -> Any:
        for name in options:
            if name not in shown.parameters:
                known = suggestion(name, shown.parameters)
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument '{name}'{known}")
        return function(*args, **options)

    vars(checked)["__signature__"] = shown
    return cast(F, checked)
