"""What a format itself calls white: maxvals, bits that do not fill their type, and what is none."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from onnx_xcam.errors import ImageError
from onnx_xcam.images import InputSpec, Preprocess, open_photo, preprocess_image

UNIT = Preprocess(scale=1 / 255)


def prepared(photo, channels=1):
    spec = InputSpec("image", np.dtype(np.float32), "NCHW", channels, *photo.size)
    return preprocess_image(photo, UNIT.replace(channels="GRAY" if channels == 1 else "RGB"), spec)[0]


def numbers(maxval, *values):
    return np.array(values, "u1" if maxval < 256 else ">u2").tobytes()


def pam(kind, depth, maxval, *values):
    fields = f"WIDTH {len(values) // depth}\nHEIGHT 1\nDEPTH {depth}\n# {kind}\nMAXVAL {maxval}\nTUPLTYPE {kind}\n"
    return b"P7\n" + fields.encode() + b"ENDHDR\n" + numbers(maxval, *values)


@pytest.mark.parametrize("maxval", [1, 15, 100, 254, 255, 1000, 4095, 65534, 65535])
def test_the_maxval_of_netpbm_is_white(maxval):
    """In the values of the file, grey and RGB, and with two frames the first."""
    half = maxval // 2
    for data in (
        b"P5\n# x\n3 1\n%d\n" % maxval + numbers(maxval, 0, half, maxval),
        pam("GRAYSCALE", 1, maxval, 0, half, maxval),
    ):
        photo = open_photo(data)
        assert (photo.white, photo.pixels.ravel().tolist()) == (maxval, [0, half, maxval])
        np.testing.assert_allclose(prepared(photo).ravel(), [0, half / maxval, 1], atol=1e-6)
    for data in (b"P6\n1 1\n%d\n" % maxval + numbers(maxval, 0, half, maxval), pam("RGB", 3, maxval, 0, half, maxval)):
        photo = open_photo(data)
        assert (photo.white, photo.pixels.ravel().tolist()) == (maxval, [0, half, maxval])
        np.testing.assert_allclose(prepared(photo, 3).ravel(), [0, half / maxval, 1], atol=1e-6)
        if maxval < 256:
            np.testing.assert_allclose(photo.display().ravel(), [0, 255 * half / maxval, 255], atol=0.5)


@pytest.mark.parametrize("maxval", [15, 255, 4095])
def test_netpbm_as_text(maxval):
    """OpenCV stretches 8 bits to 0..255 itself, and no others."""
    photo = open_photo(b"P2\n3 1\n%d\n0 %d %d\n" % (maxval, maxval // 5, maxval))
    np.testing.assert_allclose(prepared(photo).ravel(), [0, 0.2, 1], atol=1e-6)


def test_pam_of_bands_and_alpha():
    photo = open_photo(pam("RGB_ALPHA", 4, 100, 10, 20, 30, 50))
    assert photo.has_alpha and photo.channels == 4
    np.testing.assert_allclose(prepared(photo, 3).ravel(), [0.55, 0.6, 0.65], atol=1e-6)
    np.testing.assert_allclose(photo.display().ravel(), [140, 153, 166], atol=1)
    photo = open_photo(pam("GRAYSCALE_ALPHA", 2, 65535, 9, 8))
    assert photo.has_alpha and photo.white == 65535
    photo = open_photo(pam("BANDS", 6, 4095, *range(6)))
    assert photo.pixels.tolist() == [[[0, 1, 2, 3, 4, 5]]] and not photo.has_alpha and not photo.is_of_colours
    twice = open_photo(pam("GRAYSCALE", 1, 255, 7) * 2)
    assert twice.remarks == ("it holds several pictures, of which the first is taken",)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (pam("RGB", 3, 255, 1, 2, 3)[:-1], "truncated"),
        (pam("RGB", 3, 255, 1, 2, 3).replace(b"DEPTH 3", b"DEPTH x"), "damaged"),
        (pam("RGB", 3, 255, 1, 2, 3).replace(b"DEPTH 3", b"DEPTH 0"), "impossible DEPTH 0"),
        (pam("RGB", 3, 255, 1, 2, 3).replace(b"MAXVAL 255", b"MAXVAL 65536"), "impossible DEPTH 3 or MAXVAL 65536"),
        (pam("RGB", 3, 255, 1, 2, 3).replace(b"ENDHDR", b"ENDHDX"), "damaged"),
        (pam("RGB", 3, 255, 1, 2, 3).replace(b"DEPTH 3", b"DEPTH 999999999"), "bytes in only"),
    ],
)
def test_damaged_pam(data, said):
    with pytest.raises(ImageError, match=said):
        open_photo(data)


def tiff(bits, values, photometric):
    text = "".join(format(value, f"0{bits}b") for value in values)
    text += "0" * (-len(text) % 16)
    content = bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(content)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<I", 8 + len(content))
    return head + content + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_tiff_of_odd_bits(bits):
    """The file's own values, which OpenCV shifts to the left; white is 2^bits - 1 (0 where it is zero)."""
    white = 2**bits - 1
    values = [0, 1, white // 2, white] * 4
    photo = open_photo(tiff(bits, values, 1))
    assert (photo.white, photo.pixels.ravel().tolist()) == (white, values)
    inverted = open_photo(tiff(bits, values, 0))
    assert inverted.pixels.ravel().tolist() == [white - value for value in values]


@pytest.mark.skipif(not cv2.haveImageWriter("x.avif"), reason="this OpenCV writes no AVIF")
@pytest.mark.parametrize("bits", [8, 10, 12])
def test_avif(bits):
    white = 2**bits - 1
    pixels = np.full((16, 16, 3), white, np.uint8 if bits == 8 else np.uint16)
    pixels[:, :8] = 0
    data = cv2.imencode(".avif", pixels, [cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_QUALITY, 100])[1].tobytes()
    photo = open_photo(data)
    assert photo.white == white
    np.testing.assert_allclose(prepared(photo, 3)[:, 0, [0, -1]], [[0, 1]] * 3, atol=0.01)


def test_jpeg_2000_states_its_precision():
    pixels = (np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)
    data = cv2.imencode(".jp2", pixels, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    at = data.index(b"\xff\x4f\xff\x51")
    assert open_photo(data).white == 65535
    for precision in (12, 15):
        photo = open_photo(data[: at + 42] + bytes([precision - 1]) + data[at + 43 :])
        assert photo.pixels.dtype == np.uint16
        assert photo.white == 2**precision - 1
        assert photo.pixels.max() <= photo.white


def test_significant_bits_of_a_png_change_nothing():
    pixels = np.array([[0, 4095, 65535]], np.uint16)
    data = cv2.imencode(".png", pixels)[1].tobytes()
    chunk = struct.pack(">I", 1) + b"sBIT\x0c" + struct.pack(">I", zlib.crc32(b"sBIT\x0c"))
    photo = open_photo(data[:33] + chunk + data[33:])
    assert (photo.white, photo.pixels.ravel().tolist()) == (65535, [0, 4095, 65535])


def test_a_jpeg_of_12_bits_is_told_apart():
    data = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes().replace(b"\xff\xc0", b"\xff\xc1")
    at = data.index(b"\xff\xc1") + 4
    with pytest.raises(ImageError, match="is a JPEG of 12 bits, which OpenCV does not read; save it as a PNG"):
        open_photo(data[:at] + b"\x0c" + data[at + 1 :])
