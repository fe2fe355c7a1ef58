"""A picture with its own depth and values, and the copy of 8 bits that is displayed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images.photo import Photo
from onnx_xcam.images.read import read_photo

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.int16, np.int32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_file_is_read_in_its_own_depth(dtype, channels, tmp_path):
    values = (RANDOM.random((9, 7, channels)) * 100).astype(dtype)
    order = [2, 1, 0, 3][:channels] if channels >= 3 else [0]
    exact = (cv2.IMWRITE_TIFF_COMPRESSION, 1)  # OpenCV 4's default for float32, LogLuv, is lossy
    assert cv2.imwrite(str(tmp_path / "p.tif"), values[..., order], exact)
    photo = read_photo(tmp_path / "p.tif")
    assert photo.pixels.dtype == dtype
    np.testing.assert_array_equal(photo.pixels, values)
    assert photo.has_alpha == (channels == 4)
    assert photo.white == (1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max)


def test_rgb_of_8_bits_is_displayed_without_a_copy():
    pixels = RANDOM.integers(0, 255, (5, 6, 3)).astype(np.uint8)
    assert Photo(pixels).display() is pixels


def test_deep_pictures_are_stretched_by_percentiles():
    values = np.arange(4000, dtype=np.uint16).reshape(40, 100, 1)
    values[0, 0], values[0, 1] = 65535, 0  # a dead and a saturated pixel decide nothing
    shown = Photo(values).display()
    assert shown.dtype == np.uint8
    assert shown.shape == (40, 100, 3)
    low, high = np.percentile(values, (0.5, 99.5))
    expected = np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(shown, np.repeat(expected, 3, 2))


def test_a_window_decides_what_is_black_and_white():
    values = np.array([[-2000.0, -1000.0, 0.0, 1000.0, np.nan]], np.float32)[..., None]
    np.testing.assert_array_equal(Photo(values, window=(-1000, 1000)).display()[0, :, 0], [0, 0, 128, 255, 0])
    np.testing.assert_array_equal(Photo(values).display(window=(0, 500))[0, :, 0], [0, 0, 0, 255, 0])


def test_colours_keep_their_hue_and_bands_are_stretched_by_themselves():
    ramp = np.linspace(0, 1, 500)
    colours = np.stack([ramp, ramp / 2, ramp / 4], 1).reshape(20, 25, 3).astype(np.float32)
    shown = Photo(colours).display().astype(float)
    assert shown[10, 10, 0] == pytest.approx(2 * shown[10, 10, 1], abs=2)
    bands = np.concatenate([colours, colours * 7, colours], 2)
    shown = Photo(bands).display()
    np.testing.assert_array_equal(shown[..., 0], shown[..., 2])
    np.testing.assert_array_equal(Photo(bands).display((4,))[..., 1], Photo(bands).display((1, 4, 7))[..., 1])


@pytest.mark.parametrize("value", [0, 700])
def test_even_pictures(value):
    shown = Photo(np.full((4, 4, 1), value, np.uint16)).display()
    assert (shown == (255 if value else 0)).all()


def test_bands_that_are_not_there():
    with pytest.raises(
        PreprocessError, match="the picture has 3 channels, but show_bands in the preprocessing says channel 5"
    ):
        Photo(np.zeros((4, 4, 3), np.uint8)).display((0, 1, 5))
