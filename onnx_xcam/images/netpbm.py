"""This module reads PAM files (P7), of any number of bands.

OpenCV leaves the colours of PAM in their order where it has all others in BGR, loses values of a maxval of 1, and
refuses more than four bands. The header has a line for each field, and samples follow pixel by pixel, of one byte or of
two, the more significant first: netpbm, pam(5), https://netpbm.sourceforge.net/doc/pam.html.
"""

from __future__ import annotations

import re

import numpy as np

from onnx_xcam.errors import ImageError
from onnx_xcam.images.decoded import Decoded

_HEADER = 1 << 14
"""The header has to end within so many bytes."""
_NUMBERS = ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL")
_MOST_BANDS, _LARGEST = 1024, 65535


def read_pam(data: bytes, path: str) -> Decoded:
    """Read the first picture in a PAM file; messages call it by `path`.

    Returns:
        The pixels [H,W,C] of uint8 or uint16, upright, with black at 0 and colours in RGB.

    Raises:
        ImageError: the header is damaged, or states more than follows.
    """
    end = data.find(b"\nENDHDR\n", 0, _HEADER)
    lines = [line for line in data[2:end].decode("ascii", "replace").splitlines() if not line.startswith("#")]
    fields = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) == 2)
    stated = [fields.get(name, "").strip() for name in _NUMBERS]
    if end < 0 or not all(re.fullmatch(r"[0-9]{1,9}", text) for text in stated):
        raise ImageError(f"{path}: the header of this PAM file is damaged; save it anew")
    width, height, depth, maxval = map(int, stated)
    if not (width and height and 1 <= depth <= _MOST_BANDS and 1 <= maxval <= _LARGEST):
        raise ImageError(f"{path}: this PAM file states an impossible DEPTH {depth} or MAXVAL {maxval}; save it anew")
    kind = np.dtype("u1" if maxval < 256 else ">u2")
    start, count = end + len(b"\nENDHDR\n"), width * height * depth
    if start + count * kind.itemsize > len(data):
        raise ImageError(f"{path}: the picture file is truncated; copy or download it again")
    values = np.frombuffer(data, kind, count, start).reshape(height, width, depth)
    several = data.startswith(b"P7", start + count * kind.itemsize)
    remarks = ("it holds several pictures, of which the first is taken",) if several else ()
    has_alpha = fields.get("TUPLTYPE", "").strip().endswith("_ALPHA") and depth in (2, 4)
    return Decoded(values.astype(kind.newbyteorder("=")), 1, has_alpha, False, False, remarks)
