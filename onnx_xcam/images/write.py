"""This module encodes pictures, [H,W,3] uint8 RGB, and writes them to files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from onnx_xcam.common.files import Draft
from onnx_xcam.errors import EncodingError, OutputError
from onnx_xcam.images.backend import first_line, memory_for, opencv
from onnx_xcam.images.pixels import ImageRGB


def write_image(path: str | Path, image_rgb: ImageRGB) -> None:
    """Write a picture, [H,W,3] uint8 RGB, to a file in the format of its suffix: PNG, JPEG (quality 95) or another.

    Raises:
        OutputError: OpenCV does not know the suffix, or the file cannot be written.
    """
    path = Path(path)
    try:
        data = encode_image(image_rgb, path.suffix)
    except OutputError as error:
        raise OutputError(f"{path}: {error}") from error
    try:
        path.parent.stat()  # a draft would make a folder that is not there
        with Draft(path) as draft:
            draft.file.write(data)
            draft.place()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error


def encode_image(image_rgb: ImageRGB, suffix: str, quality: int = 95) -> bytes:
    """Return a picture, [H,W,3] uint8 RGB, as the bytes of a file in the format of a suffix: PNG, JPEG or another.

    Args:
        image_rgb: the picture.
        suffix: the suffix of the file, such as ".png".
        quality: of a JPEG, 0 to 100.

    Raises:
        OutputError: OpenCV does not know the suffix.
        EncodingError: OpenCV cannot encode this picture in that format.
    """
    cv2 = opencv()
    suffix = suffix.lower()
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix in (".jpg", ".jpeg") else _png_options(cv2, suffix)
    height, width = image_rgb.shape[:2]
    if not cv2.haveImageWriter(f"x{suffix}"):
        raise OutputError("OpenCV cannot write this kind of picture; use .png or .jpg")
    try:
        with memory_for("the picture"):
            done, data = cv2.imencode(suffix, cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), options)
            if done:
                return bytes(data)
        why = f"{width} x {height} pixels may be more than this format can have"
    except cv2.error as error:
        why = first_line(error)
    raise EncodingError(f"a picture of {width} x {height} pixels cannot be written as {suffix} ({why})")


def _png_options(cv2: Any, suffix: str) -> list[int]:
    """Return the options of a PNG: the filter "up", where OpenCV offers the choice (4.12 and later).

    For photos with an overlay, that filter takes two thirds of the time of OpenCV's own choice, and the file is a tenth
    smaller.
    """
    if suffix != ".png" or not hasattr(cv2, "IMWRITE_PNG_FILTER"):
        return []
    return [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
