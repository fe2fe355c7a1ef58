"""OpenCV and Pillow, imported once and only when a picture is really read, resized, coloured or written."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

from onnx_xcam.errors import DependencyError

MAX_PIXELS = 2**28
"""The largest picture that is read, in pixels (268 million: 16384 x 16384)."""


@functools.cache
def opencv() -> Any:
    """The module `cv2`, which then decodes nothing of more than `MAX_PIXELS` (if it was not imported before).

    Raises:
        DependencyError: it is not installed, or a system library that it needs (libGL, on slim images) is missing.
    """
    os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))  # read once, when OpenCV is loaded
    try:
        return importlib.import_module("cv2")
    except ImportError as error:
        raise DependencyError(
            f"OpenCV cannot be imported ({error}): pip install opencv-python; where a system library such as libGL is "
            "missing (slim images, servers), opencv-python-headless works as well"
        ) from error


@functools.cache
def pillow() -> Any:
    """The module `PIL.Image`.

    Raises:
        DependencyError: it is not installed, or a library that it needs is missing.
    """
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise DependencyError(f"Pillow cannot be imported ({error}): pip install --upgrade pillow") from error
