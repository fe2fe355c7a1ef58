"""What the values of a file become: white, window, alpha, resizing in the file's depth, and borders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images import InputSpec, Photo, Preprocess, preprocess_image

RANDOM = np.random.default_rng(9)


def spec(channels=1, dtype="f4", size=(12, 10)):
    return InputSpec("image", np.dtype(dtype), "NCHW", channels, *size)


def prepared(pixels, count=1, *, dtype="f4", size=None, photo=None, **settings):
    """What an input of so many channels is fed; without a size, the picture keeps its own."""
    settings = {"channels": "GRAY" if count == 1 else "RGB", **settings}
    given = photo or Photo(pixels)
    return preprocess_image(given, Preprocess(**settings), spec(count, dtype, size or given.size))[0]


@pytest.mark.parametrize(
    ("dtype", "white"), [("u1", 255), ("u2", 65535), ("i2", 32767), ("u4", 2**32 - 1), ("f4", 1), ("f8", 1), ("f2", 1)]
)
def test_what_a_type_calls_white_is_255(dtype, white):
    pixels = np.array([[[0], [white]]], dtype)
    np.testing.assert_allclose(prepared(pixels), [[[0, 255]]], rtol=1e-6)


def test_white_neither_cuts_nor_rounds():
    pixels = np.array([[[-1000.0], [0.0], [0.4], [5000.0]]], np.float32)
    np.testing.assert_allclose(prepared(pixels, white=1000)[0, 0], [-255, 0, 0.102, 1275], rtol=1e-6)
    np.testing.assert_array_equal(prepared(pixels, white=255)[0, 0], pixels[0, :, 0])


def test_a_window_cuts_before_the_picture_is_resized():
    pixels = np.zeros((8, 8, 1), np.float32)
    pixels[:, 4:] = 1e6
    item = prepared(pixels, window=(0, 100), size=(2, 2))
    cut = np.asarray(Image.fromarray(np.minimum(pixels[..., 0], 100)).resize((2, 2), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(item[0], cut * 2.55, rtol=1e-5)
    assert item.max() < 255  # the edge is smoothed as it is seen in the window


def test_the_window_of_a_file_counts_unless_another_is_stated():
    photo = Photo(np.array([[[-160], [40], [240]]], np.int16), window=(-160, 240))
    np.testing.assert_allclose(prepared(None, photo=photo)[0, 0], [0, 127.5, 255])
    np.testing.assert_allclose(prepared(None, photo=photo, window=(0, 80))[0, 0], [0, 127.5, 255])
    np.testing.assert_allclose(prepared(None, photo=photo, white=255)[0, 0], [-160, 40, 240])


def test_8_bits_with_a_window():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    expected = np.clip((pixels[..., 0] - 50.0) * 255 / 100, 0, 255)
    np.testing.assert_allclose(prepared(pixels, window=(50, 150))[0], expected, rtol=1e-5)


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "lanczos"])
def test_deep_pictures_are_resized_in_their_own_depth(interpolation):
    pixels = RANDOM.integers(0, 4096, (50, 40, 3), np.uint16)
    filters = {"linear": "BILINEAR", "cubic": "BICUBIC", "lanczos": "LANCZOS"}
    item = prepared(pixels, 3, white=255, interpolation=interpolation, size=(12, 10))
    for channel in range(3):
        plane = Image.fromarray(pixels[..., channel].astype(np.float32))
        wanted = np.asarray(plane.resize((10, 12), Image.Resampling[filters[interpolation]]))
        np.testing.assert_allclose(item[channel], wanted, rtol=1e-5, atol=0.01)
    assert len(np.unique(item)) > 256


def test_16_bits_agree_with_8_bits_but_for_the_rounding():
    """A photo stored in 16 bits is the same photo; every setting of geometry and channels applies to both."""
    pixels = RANDOM.integers(0, 256, (60, 45, 3)).astype(np.uint8)
    deep = pixels.astype(np.uint16) * 257
    for settings in (
        {"resize": "crop", "crop_fraction": 0.875, "channels": "BGR", "mean": (1, 2, 3), "std": (4, 5, 6)},
        {"resize": "letterbox", "antialias": False, "pad_value": (10, 20, 30)},
        {"interpolation": "area", "crop_first": True, "crop_fraction": 0.5, "resize": "crop"},
        {"interpolation": "nearest", "resize": "crop", "resize_size": (20, 20)},
    ):
        of_8, of_16 = (prepared(one, 3, size=(16, 16), **settings) for one in (pixels, deep))
        np.testing.assert_allclose(of_16, of_8, atol=1.01)
    np.testing.assert_allclose(prepared(deep, 1), prepared(pixels, 1), atol=0.51)  # grey


def test_alpha_of_deep_pictures_lies_over_white():
    pixels = np.array([[[1000, 2000, 3000, 65535], [1000, 2000, 3000, 0], [0, 0, 0, 32768]]], np.uint16)
    item = prepared(None, 3, photo=Photo(pixels, has_alpha=True))
    np.testing.assert_allclose(item[:, 0, 0], np.array([1000, 2000, 3000]) / 257, rtol=1e-5)
    np.testing.assert_allclose(item[:, 0, 1], 255, rtol=1e-6)
    np.testing.assert_allclose(item[:, 0, 2], 255 * (1 - 32768 / 65535), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_borders_are_exact_in_each_channel(dtype, layout):
    """Borders that are 0 after normalisation, as models that pad last have them, need no whole pixel value."""
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    preprocess = Preprocess(resize="letterbox", mean=mean, std=std, pad_value=mean)
    photo = Photo(np.full((10, 20, 3), 7, dtype))
    item, _ = preprocess_image(photo, preprocess, InputSpec("image", np.dtype("f4"), layout, 3, 20, 20))
    item = item if layout == "NCHW" else np.moveaxis(item, -1, 0)
    assert not item[:, :5].any()
    assert not item[:, 15:].any()
    assert item[:, 5:15].all()


def test_borders_of_bgr_are_in_the_order_of_the_input():
    item = prepared(
        np.zeros((10, 20, 3), np.uint8), 3, size=(20, 20), resize="letterbox", channels="BGR", pad_value=(1, 2, 3)
    )
    assert item[:, 0, 0].tolist() == [1, 2, 3]


def test_integers_hold_what_fits_and_refuse_the_rest():
    pixels = np.array([[[0], [40000]]], np.uint16)
    assert prepared(pixels, dtype="u2", white=255)[0, 0].tolist() == [0, 40000]
    with pytest.raises(PreprocessError, match=r"holds int16, which cannot carry the values 0 to 4e\+04"):
        prepared(pixels, dtype="i2", white=255)
    with pytest.raises(PreprocessError, match="holds uint16, which cannot carry the values 0 to 1"):
        prepared(pixels, dtype="u2", scale=1 / 255)
    assert prepared(pixels, dtype="u1", scale=1, white=65535)[0, 0].tolist() == [0, 156]
    with pytest.raises(PreprocessError, match="holds float16, which cannot carry"):
        prepared(np.full((2, 2, 1), 1e6, np.float32), dtype="f2", white=255)


def test_the_summary_tells_it_in_words():
    one = spec(3)
    said = {
        "RGB, values 0..255": Preprocess(),
        "RGB, values as in the file": Preprocess(white=255),
        "RGB, values 0..255 with pixel 255 at 4095 of the file's values": Preprocess(white=4095),
        "with pixel 0 at -160 and 255 at 240 of the file's values, cut off outside": Preprocess(window=(-160, 240)),
        "bands 3, 2, 1, values 0..255": Preprocess(bands=(3, 2, 1)),
    }
    for words, preprocess in said.items():
        assert words in preprocess.summary(one)


@pytest.mark.parametrize("pixels", [np.full((2, 2, 1), 9, "u1"), np.full((2, 2, 1), 9.0, "f4")], ids=["8-bit", "deep"])
def test_absurd_numbers_end_in_one_error_and_no_warning_of_numpy(pixels):
    with pytest.raises(PreprocessError, match="which cannot carry the values"):
        prepared(pixels, scale=1e308, std=1e-300)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"scale": 1 / 255}, "0..1"),
        ({"scale": 1 / 127.5, "mean": 1}, "-1..1"),
        ({"scale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}, "-1..1"),
        ({"mean": 128}, "-128..127"),
        ({"mean": (103.939, 116.779, 123.68)}, "pixel - [103.9, 116.8, 123.7]"),
        ({"scale": 1 / 255, "mean": 0.449, "std": 0.226}, "(pixel / 255 - 0.449) / 0.226"),
        ({"scale": 1 / 255, "std": (0.229, 0.224, 0.225)}, "(pixel / 255) / [0.229, 0.224, 0.225]"),
        ({"std": (58.4, 57.1, 57.4)}, "pixel / [58.4, 57.1, 57.4]"),
        ({"scale": 0.0173, "mean": (1.8, 1.9, 2)}, "pixel * 0.0173 - [1.8, 1.9, 2]"),
    ],
)
def test_values_are_told_as_a_range_where_all_channels_share_one_and_else_as_the_formula(settings, words):
    assert Preprocess(**settings).values() == words


def test_the_order_of_bands_is_told():
    assert "13 channels, values 0..255" in Preprocess().summary(spec(13))
