"""Pictures of any number of channels: multi-band TIFF files of every kind, and which channels a model gets."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from helpers.producers import library
from helpers.tiff_files import Tiff
from onnx_xcam.errors import ImageError, PreprocessError
from onnx_xcam.images import InputSpec, Photo, Preprocess, preprocess_image, read_mask, read_photo
from onnx_xcam.images.values import shown

RANDOM = np.random.default_rng(5)
HEIGHT, WIDTH = 21, 37


def values(dtype, samples, height=HEIGHT, width=WIDTH):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return RANDOM.normal(0, 100, (height, width, samples)).astype(dtype)
    limits = np.iinfo(dtype)
    return RANDOM.integers(limits.min, limits.max, (height, width, samples), dtype, endpoint=True)


def written(folder, content):
    (folder / "p.tif").write_bytes(content)
    return folder / "p.tif"


WAYS = {
    "strips": Tiff(),
    "big-endian": Tiff(order=">"),
    "BigTIFF": Tiff(big=True),
    "big-endian BigTIFF": Tiff(order=">", big=True, deflate=True),
    "tiles": Tiff(tile=(16, 16)),
    "planar": Tiff(planar=2),
    "planar tiles": Tiff(planar=2, tile=(16, 32), deflate=True),
    "deflate": Tiff(deflate=True),
    "tiles, deflate": Tiff(tile=(16, 16), deflate=True, order=">"),
}


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_band_is_read_as_it_is(way, dtype, tmp_path):
    for samples in (2, 3, 5, 13):
        pixels = values(dtype, samples)
        photo = read_photo(written(tmp_path, way.write(pixels)))
        assert photo.pixels.dtype == dtype
        np.testing.assert_array_equal(photo.pixels, pixels)
        assert not photo.has_alpha


@pytest.mark.parametrize(("predictor", "dtype"), [(2, "u1"), (2, "u2"), (2, "i4"), (3, "f4"), (3, "f8"), (3, "f2")])
@pytest.mark.parametrize("way", [{}, {"order": ">"}, {"tile": (16, 16)}, {"planar": 2}], ids=str)
def test_differences_between_neighbours_are_undone(way, predictor, dtype, tmp_path):
    pixels = values(dtype, 6)
    content = Tiff(deflate=True, predictor=predictor, **way).write(pixels)
    np.testing.assert_array_equal(read_photo(written(tmp_path, content)).pixels, pixels)


@pytest.mark.parametrize("samples", [3, 4])
def test_rgb_in_planes(samples, tmp_path):
    pixels = values("u2", samples)
    photo = read_photo(written(tmp_path, Tiff(planar=2, photometric=2, extra=(2,) * (samples - 3)).write(pixels)))
    np.testing.assert_array_equal(photo.pixels, pixels)
    assert photo.has_alpha == (samples == 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_bands(orientation, tmp_path):
    pixels = values("u2", 5)
    turned = read_photo(written(tmp_path, Tiff(orientation=orientation).write(pixels))).pixels
    plain = read_photo(written(tmp_path, Tiff(orientation=orientation).write(pixels[..., :1]))).pixels
    np.testing.assert_array_equal(turned[..., :1], plain)  # OpenCV turns a picture of one band itself


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_white_is_zero_in_bands(dtype, tmp_path):
    pixels = values(dtype, 2)
    got = read_photo(written(tmp_path, Tiff(photometric=0).write(pixels))).pixels
    top = pixels.max() if dtype == "f4" else np.iinfo(dtype).max + np.iinfo(dtype).min
    np.testing.assert_allclose(got.astype(float), float(top) - pixels.astype(float), atol=1e-4)


def test_a_mask_of_bands(tmp_path):
    pixels = np.zeros((8, 8, 5), np.uint8)
    pixels[2, 3, 4] = 9
    mask = read_mask(written(tmp_path, Tiff().write(pixels)))
    assert mask.sum() == 1
    assert mask[2, 3]


def test_kinds_that_are_not_read_are_named(tmp_path):
    content = bytearray(Tiff(deflate=True).write(values("u2", 5)))
    at = content.find(b"\x03\x01\x04\x00") + 8
    for method, name in ((7, "JPEG"), (34925, "LZMA"), (50000, "Zstandard")):
        content[at : at + 4] = method.to_bytes(4, "little")
        with pytest.raises(ImageError, match=rf"p\.tif: its bands are compressed by {name}, which is not read"):
            read_photo(written(tmp_path, bytes(content)))


def test_damaged_bands_end_well(tmp_path):
    """Each byte of the directory is changed, and the file cut off anywhere."""
    content = Tiff(deflate=True, tile=(16, 16)).write(values("u2", 5, 8, 8))
    start = int.from_bytes(content[4:8], "little")
    changed = [content[:at] + bytes([content[at] ^ 0x81]) + content[at + 1 :] for at in range(start, len(content))]
    for damaged in [*changed, *(content[:length] for length in range(8, len(content), 5))]:
        try:
            read_photo(written(tmp_path, damaged))
        except ImageError as error:
            assert "\n" not in str(error)


def test_bands_are_counted_in_the_size(tmp_path):
    """A directory of a few bytes states 1,000 bands of 100 megapixels."""
    content = Tiff(rows=10_000).write(np.zeros((1, 1, 1000), np.uint8))
    for tag in (256, 257):
        at = content.find(tag.to_bytes(2, "little") + b"\x04\0\1\0\0\0") + 8
        content = content[:at] + (10_000).to_bytes(4, "little") + content[at + 4 :]
    with pytest.raises(ImageError, match=r"states 10000 x 10000 pixels of 1000 bytes in only"):
        read_photo(written(tmp_path, content))


def test_it_agrees_with_tifffile(tmp_path):
    tifffile = library("tifffile")
    ways = itertools.product(("contig", "separate"), (None, "zlib"), (None, (16, 32)), "<>", ("uint16", "float32"))
    for planar, compression, tile, order, dtype in ways:
        pixels = values(dtype, 6)
        given = np.moveaxis(pixels, -1, 0) if planar == "separate" else pixels
        tifffile.imwrite(
            tmp_path / "p.tif", given, photometric="minisblack", planarconfig=planar, compression=compression,
            tile=tile, byteorder=order,
        )  # fmt: skip
        np.testing.assert_array_equal(read_photo(tmp_path / "p.tif").pixels, pixels)


# --- what a model gets ---


def spec(channels, layout="NCHW", dtype="f4", height=HEIGHT, width=WIDTH):
    return InputSpec("image", np.dtype(dtype), layout, channels, height, width)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("channels", [2, 4, 6, 13])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_model_of_as_many_channels_gets_them_in_order(dtype, channels, layout):
    pixels, white = values(dtype, channels), np.iinfo(dtype).max
    mean, std = RANDOM.random(channels), RANDOM.random(channels) + 0.5
    preprocess = Preprocess(scale=1 / 255, mean=tuple(mean), std=tuple(std))
    item, _ = preprocess_image(Photo(pixels), preprocess, spec(channels, layout))
    expected = (pixels / white - mean) / std
    np.testing.assert_allclose(item if layout == "NHWC" else np.moveaxis(item, 0, -1), expected, rtol=1e-5, atol=1e-6)


def test_bands_are_chosen_in_order_and_may_stand_twice():
    pixels = values("u2", 6)
    item, _ = preprocess_image(Photo(pixels), Preprocess(white=255, bands=(5, 0, 5)), spec(3))
    np.testing.assert_array_equal(item, np.moveaxis(pixels[..., [5, 0, 5]], -1, 0))
    item, _ = preprocess_image(Photo(pixels), Preprocess(white=255, bands=(4,)), spec(1))
    np.testing.assert_array_equal(item[0], pixels[..., 4])


def test_bands_of_a_photo_are_the_photo():
    """The same pixels, resized alike, in another order."""
    pixels = values("u1", 3, 50, 60)
    for first, second in (
        (Preprocess(channels="BGR"), Preprocess(bands=(2, 1, 0))),
        (Preprocess(), Preprocess(bands=(0, 1, 2))),
    ):
        a, b = (preprocess_image(Photo(pixels), one, spec(3))[0] for one in (first, second))
        np.testing.assert_array_equal(a, b)


def test_rgba_for_a_model_of_four_channels(tmp_path):
    rgba = values("u1", 4)
    assert cv2.imwrite(str(tmp_path / "p.png"), rgba[..., [2, 1, 0, 3]])
    photo = read_photo(tmp_path / "p.png")
    item, _ = preprocess_image(photo, Preprocess(), spec(4))
    np.testing.assert_array_equal(item, np.moveaxis(rgba, -1, 0))
    np.testing.assert_array_equal(shown(photo, Preprocess(), spec(4), "p"), rgba[..., :3])
    item, _ = preprocess_image(photo, Preprocess(), spec(3))  # laid over white
    opaque = rgba[..., 3:] / 255
    np.testing.assert_allclose(np.moveaxis(item, 0, -1), rgba[..., :3] * opaque + 255 * (1 - opaque), atol=0.51)


def test_alpha_beside_bands_is_left_out_if_the_model_takes_one_channel_less(tmp_path):
    pixels = values("u2", 6)
    photo = read_photo(written(tmp_path, Tiff(extra=(0, 0, 0, 0, 2)).write(pixels)))
    assert photo.has_alpha
    item, _ = preprocess_image(photo, Preprocess(white=255), spec(5))
    np.testing.assert_array_equal(item, np.moveaxis(pixels[..., :5], -1, 0))


@pytest.mark.parametrize(
    ("channels", "takes", "settings", "message"),
    [
        (13, 3, {}, r"p\.tif has 13 channels, but .* 'image' takes 3; choose 3 of them, .* as bands: \[0, 1, 2\] in"),
        (3, 4, {}, r"p\.tif has 3 channels \(RGB\), but .* takes 4; take a file that has them all, .* \[0, 1, 2, 2\]"),
        (1, 2, {}, r"p\.tif has 1 channel \(grey\), but .* takes 2; .* \[0, 0\]"),
        (6, 1, {"channels": "GRAY"}, r"p\.tif has 6 channels, but .* takes 1; choose 1 of them, .* bands: \[0\]"),
        (4, 13, {}, r"p\.tif has 4 channels, but .* takes 13; .* \[0, 1, 2, 3, \.\.\.\]"),
        (6, 3, {"bands": (0, 1)}, r"bands lists 2 channel\(s\) of the file, but .* takes 3"),
        (6, 3, {"bands": (0, 1, 6)}, r"p\.tif has 6 channels, but bands in the preprocessing says channel 6"),
        (6, 6, {"channels": "BGR"}, r"makes 3 channel\(s\) \(BGR\), but .* has 6; say bands"),
        (6, 6, {"mean": (0.1, 0.2)}, r"mean has 2 values for 6 channel\(s\) \(bands\)"),
        (6, 3, {"bands": (0, 1, 2), "std": (1.0, 2.0)}, r"std has 2 values for 3 channel\(s\) \(bands\)"),
    ],
)
def test_a_wrong_number_of_channels(channels, takes, settings, message):
    with pytest.raises(PreprocessError, match=message) as caught:
        preprocess_image(Photo(values("u2", channels)), Preprocess(**settings), spec(takes), "p.tif")
    assert "\n" not in str(caught.value)


def test_an_array_whose_channels_come_first():
    with pytest.raises(PreprocessError, match=r"is \[6, 9, 7\], of which the last axis .* x\.transpose\(1, 2, 0\)"):
        preprocess_image(Photo(np.zeros((6, 9, 7))), Preprocess(), spec(6), "a.npy")
