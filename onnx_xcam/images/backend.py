"""This module imports OpenCV and Pillow, once and only when a picture is read, resized, coloured or written."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

from onnx_xcam.errors import DependencyError, ImageError

MAX_PIXELS = 2**28
"""The largest picture that is read, in pixels (268 million: 16384 x 16384)."""


_OUT_OF_MEMORY = -4
"""OpenCV's code, `cv2.Error.StsNoMem`."""


@functools.cache
def opencv() -> Any:
    """Import and return `cv2`, set to decode nothing of more than `MAX_PIXELS` (unless it was imported before).

    Raises:
        DependencyError: OpenCV is not installed, or a system library that it needs (libGL, on slim images) is missing.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read once, when OpenCV is loaded
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise DependencyError(
            f"OpenCV cannot be imported ({error}): pip install opencv-python; where a system library such as libGL is "
            "missing (slim images, servers), opencv-python-headless works as well"
        ) from error


@contextlib.contextmanager
def memory_for(name: object) -> Iterator[None]:
    """Turn an error of the block that says that the memory ran out into an error about one picture.

    Args:
        name: what the message calls the picture.

    Raises:
        ImageError: there is not enough memory for the picture.
    """
    try:
        yield
    except _memory_errors() as error:
        if not is_no_memory(error):
            raise
        raise ImageError(f"{name}: there is not enough memory for this picture; scale it down first") from error


_WARNING_FILTERS = threading.Lock()  # the warning filters are shared by all threads of the process


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Ignore the warnings of libraries in the block: what they find odd in a file is said by what is read, or not."""
    with _WARNING_FILTERS, warnings.catch_warnings(action="ignore"):
        yield


def is_no_memory(error: Exception) -> bool:
    """Tell whether an error of Python, NumPy or OpenCV says that the memory ran out."""
    return isinstance(error, MemoryError) or getattr(error, "code", None) == _OUT_OF_MEMORY


def _memory_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that may say that the memory ran out; OpenCV's says other things as well."""
    return (MemoryError, opencv().error) if "cv2" in sys.modules else (MemoryError,)


@functools.cache
def pillow() -> Any:
    """Import and return the module `PIL.Image`.

    Raises:
        DependencyError: Pillow is not installed, or a library that it needs is missing.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise DependencyError(f"Pillow cannot be imported ({error}): pip install --upgrade pillow") from error


def first_line(error: BaseException) -> str:
    """Return the message of an OpenCV error on one line."""
    return " ".join(str(error).split()) or type(error).__name__
