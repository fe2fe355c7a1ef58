"""This module turns an exception that nothing foresaw during the analysis of a model into an honest sentence.

Such an exception may come from a mistake of this package as well as from a file that contradicts itself. So the file is
called damaged only if onnx, which knows nothing of this package, refuses it; otherwise the sentence names both causes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType

import onnx_graphsurgeon as gs

from onnx_xcam.errors import ModelError, UnexpectedError
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.ir.verify import refusal

STRICT = "ONNX_XCAM_STRICT"
"""This environment variable, set to 1, lets unforeseen exceptions pass unchanged: for tests, fuzzing and sweeps."""

_UNFORESEEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    StopIteration,
    TypeError,
    UnexpectedError,
    ValueError,
)
"""These exceptions may come from a mistake of this package or from a damaged file."""


class Diagnosed:
    """A Diagnosed is a context that turns an unforeseen exception into a ModelError, which says what failed and why.

    Around the analysis of a whole model, it says that the file is damaged if onnx refuses the file. In all other cases
    the error is an UnexpectedError, or the exception itself if the environment variable of `STRICT` is 1.

    Args:
        what: the node or the model that is analysed, or a name for it.
        suspect: returns a sentence on another possible cause of a model's failure than a bug, None if there is none.
    """

    def __init__(self, what: gs.Node | Source | str, suspect: Callable[[], str | None] = lambda: None) -> None:
        self.what, self.suspect = what, suspect

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not isinstance(error, _UNFORESEEN):
            return
        if isinstance(self.what, Source) and (problem := refusal(self.what.skeleton())) is not None:
            raise ModelError(f"{self._subject()} is damaged: onnx refuses it ({problem}).") from error
        if isinstance(error, UnexpectedError) or os.environ.get(STRICT) == "1":
            return
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        suspect = self.suspect()
        raise UnexpectedError(
            f"{self._subject()} cannot be analysed ({reason}); that is a bug here or a damaged file: please report it."
            + ("" if suspect is None else f" Operators that are not ONNX's may be the reason, too. {suspect}")
        ) from error

    def _subject(self) -> str:
        """Return what was analysed, as the beginning of a sentence."""
        if isinstance(self.what, (Source, str)):
            name = self.what if isinstance(self.what, str) else self.what.name
            return name[:1].upper() + name[1:]
        name = self.what.name or next((out.name for out in self.what.outputs), "")
        return f"Node '{name}' ({self.what.op})"
