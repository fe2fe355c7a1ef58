"""Pictures as the bytes of files."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def png(array: NDArray[Any]) -> bytes:
    """Return a PNG file, which loses nothing, of grey [H,W] or RGB [H,W,3] pixels."""
    return bytes(cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)[1].tobytes())


def npy(array: NDArray[Any]) -> bytes:
    """Return a .npy file of an array."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()
