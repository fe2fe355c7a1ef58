"""This module makes photos of DICOM files, with pydicom (the extra `dicom`).

The values are those that the modality gives: rescaled by slope and intercept, or by the modality's table (DICOM PS3.3,
C.11.1). Black stands for the lowest value, so that MONOCHROME1, which states the reverse, is inverted within the range
of the bits that are stored. The window is the first one that the file states; center c and width w reach from
c - 0.5 - (w - 1) / 2 to c - 0.5 + (w - 1) / 2 (C.11.2.1.2.1), of the function LINEAR_EXACT from c - w / 2 to c + w / 2
(C.11.2.1.3.2).
"""

from __future__ import annotations

import importlib
import io
import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.errors import ImageError
from onnx_xcam.images.backend import without_warnings
from onnx_xcam.images.content import require_size
from onnx_xcam.images.display import type_white
from onnx_xcam.images.headers import format_of, stated_size
from onnx_xcam.images.photo import Photo

_PACKED = (b"1.2.840.10008.1.2.1.99", b"1.2.840.10008.1.2.8.1")
"""The transfer syntaxes that are packed with zlib, which pydicom unpacks to any size: Deflated Explicit VR Little
Endian, and Deflated Image Frame."""
_COLOURS = {"MONOCHROME1": 1, "MONOCHROME2": 1, "PALETTE COLOR": 1, "RGB": 3, "YBR_FULL": 3, "YBR_FULL_422": 3}
_COLOURS |= {"YBR_RCT": 3, "YBR_ICT": 3}
"""The number of samples of a pixel, by the photometric interpretations that are read (C.7.6.3.1.2)."""
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_EMPTY_WINDOW = "the window that it states is empty, and not followed"
_REFUSALS = (
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and its decoders raise at files that are damaged or of a kind that they do not know."""


def photo_of_dicom(data: bytes, name: str) -> Photo:
    """Return the photo in the bytes of a DICOM file, the first frame of several.

    Raises:
        ImageError: the file is damaged, has no pixels or too many, or pydicom or a decoder is not installed.
    """
    if any(uid in data for uid in _PACKED):
        raise ImageError(f"{name}: this DICOM file is deflated, which is not read; convert it to an uncompressed one")
    try:
        pydicom, pixels = importlib.import_module("pydicom"), importlib.import_module("pydicom.pixels")
    except ImportError as error:
        raise ImageError(
            f"{name}: a DICOM file is read with pydicom 3 or later; pip install 'onnx-xcam[dicom]'"
        ) from error
    with without_warnings():  # of values in the file that the standard does not allow
        try:
            header = _header(pydicom.dcmread(io.BytesIO(data), force=True), pydicom)
            _check(header, data, name)
            return _photo(header, _stored(header, pixels, name), pixels)
        except (*_REFUSALS, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
            raise ImageError(f"{name}: this DICOM file cannot be read ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    """Return why a file is not read, as a part of a sentence; what pydicom stumbles over is damage."""
    if isinstance(error, TypeError | AttributeError | AssertionError | LookupError | struct.error):
        return f"its header is damaged or incomplete: {' '.join(str(error).split())[:200]}"
    return " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__


def _header(header: Any, pydicom: Any) -> Any:
    """Return a header with the encoding that a file without a preamble leaves unsaid: that of its own elements."""
    if "TransferSyntaxUID" not in header.file_meta:
        implicit, little = header.original_encoding
        named = f"{'Implicit' if implicit else 'Explicit'}VR{'Little' if little else 'Big'}Endian"
        header.file_meta.TransferSyntaxUID = getattr(pydicom.uid, named)
    return header


def _check(header: Any, data: bytes, name: str) -> None:
    """Make sure, before anything is decoded, that a file has pixels of a kind and a size that can be read.

    Raises:
        ImageError: it has not.
    """
    if not any(kind in header for kind in _PIXELS):
        raise ImageError(f"{name}: this DICOM file holds no picture ({header.get('Modality', 'no modality stated')})")
    photometric, samples = str(header.PhotometricInterpretation), int(header.SamplesPerPixel)
    if _COLOURS.get(photometric) != samples:
        raise ImageError(f"{name}: this DICOM file has {samples} samples of {photometric!r}, which are not read")
    width, height = int(header.Columns), int(header.Rows)
    if min(width, height) < 1 or int(header.get("BitsAllocated", 32)) not in (1, 8, 16, 32, 64):
        raise ImageError(f"{name}: this DICOM file states an impossible size: {width} x {height}")
    require_size(width, height, len(data), name, samples * max(1, int(header.get("BitsAllocated", 64)) // 8))
    if "PixelData" in header and header["PixelData"].is_undefined_length:
        encaps = importlib.import_module("pydicom.encaps")
        frame = encaps.get_frame(header.PixelData, 0, number_of_frames=_frames(header))
        own = stated_size(frame, kind) if (kind := format_of(frame[:32])) else None
        if own is not None and own[0] * own[1] > width * height:
            raise ImageError(f"{name}: states {width} x {height} pixels, but its frame {own[0]} x {own[1]}")


def _stored(header: Any, pixels: Any, name: str) -> NDArray[Any]:
    """Return the values of the first frame as they are stored, [H,W] or [H,W,3]; YCbCr becomes RGB.

    Raises:
        ImageError: the values are compressed, and no decoder for them is installed, or it fails.
    """
    syntax = header.file_meta.TransferSyntaxUID
    advice = "install 'pylibjpeg[all]', or convert the file to an uncompressed one"
    if syntax.is_compressed and not pixels.get_decoder(syntax).is_available:
        raise ImageError(f"{name}: no decoder for {syntax.name} is installed; {advice}")
    try:
        stored: NDArray[Any] = pixels.pixel_array(header, index=0)
    except _REFUSALS as error:
        if not syntax.is_compressed:
            raise
        why = " ".join(str(error).split()).rstrip(".")
        raise ImageError(f"{name}: its {syntax.name} cannot be decoded ({why}); {advice}") from error
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def _photo(header: Any, stored: NDArray[Any], pixels: Any) -> Photo:
    """Return the photo of the values that are stored, [H,W] or [H,W,3]."""
    remarks = []
    if (frames := _frames(header)) > 1:
        remarks.append(f"it holds {frames} frames, of which the first is taken")
    photometric = str(header.PhotometricInterpretation)
    if photometric == "PALETTE COLOR":
        stored = pixels.apply_color_lut(stored, header)
    if stored.ndim == 3:
        return Photo(np.ascontiguousarray(stored), False, type_white(stored.dtype), None, tuple(remarks))
    values, (low, high) = _rescaled(header, stored, pixels)
    window, remark = _window(header)
    if photometric == "MONOCHROME1":
        values = ((low + high) - values).astype(values.dtype)
        window = None if window is None else (low + high - window[1], low + high - window[0])
    if window is not None and not -math.inf < window[0] < window[1] < math.inf:
        window, remark = None, _EMPTY_WINDOW  # so narrow or so far that floats do not hold it
    remarks += [remark] if remark else []
    return Photo(np.ascontiguousarray(values[..., None]), False, high if low == 0 else None, window, tuple(remarks))


def _frames(header: Any) -> int:
    """Return the number of frames that a file states."""
    return max(1, int(header.get("NumberOfFrames", 1) or 1))


def _rescaled(header: Any, stored: NDArray[Any], pixels: Any) -> tuple[NDArray[Any], tuple[float, float]]:
    """Return stored values as the modality gives them, and the least and the largest value that they can have."""
    if stored.dtype.kind == "f":
        return stored.astype(np.float32), (float(stored.min()), float(stored.max()))
    if header.get("ModalityLUTSequence"):
        given = pixels.apply_modality_lut(stored, header)
        return given, (0.0, type_white(given.dtype))
    bits = int(header.BitsStored)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if header.PixelRepresentation else (0, 2**bits - 1)
    stated = _of_frame(header, "PixelValueTransformationSequence")
    slope, intercept = float(stated.get("RescaleSlope", 1)), float(stated.get("RescaleIntercept", 0))
    if not (math.isfinite(slope) and math.isfinite(intercept)) or slope == 0:
        raise ValueError(f"rescale slope {slope:g}, intercept {intercept:g}")
    ends = sorted((low * slope + intercept, high * slope + intercept))
    if (slope, intercept) == (1, 0):
        return stored, (ends[0], ends[1])
    return (stored * slope + intercept).astype(np.float32), (ends[0], ends[1])


def _window(header: Any) -> tuple[tuple[float, float] | None, str | None]:
    """Return the first window that a file states, as (low, high), and a remark on what is not followed."""
    stated = _of_frame(header, "FrameVOILUTSequence")
    if "WindowCenter" not in stated or "WindowWidth" not in stated:
        table = "it states a table of the values of interest (VOI LUT), which is not followed"
        return None, table if stated.get("VOILUTSequence") else None
    centre, width = (float(np.ravel(stated[key].value)[0]) for key in ("WindowCenter", "WindowWidth"))
    exact = stated.get("VOILUTFunction") == "LINEAR_EXACT"
    if not exact:
        centre, width = centre - 0.5, width - 1
    if not (math.isfinite(centre) and math.isfinite(width)) or width <= 0:
        return None, _EMPTY_WINDOW
    curved = "its window is a sigmoid, which is taken for a straight line"
    window = (centre - width / 2, centre + width / 2)
    return window, curved if stated.get("VOILUTFunction") == "SIGMOID" else None


def _of_frame(header: Any, sequence: str) -> Any:
    """Return the part of the header that states this of the first frame: the header itself, of an ordinary file."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        for group in list(header.get(groups) or [])[:1]:
            if group.get(sequence):
                return group[sequence].value[0]
    return header
