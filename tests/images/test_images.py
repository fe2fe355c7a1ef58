"""Reading, checking, writing and colouring pictures."""

import os
import struct
import subprocess
import sys
import threading
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from onnx_xcam.errors import DependencyError, ImageError, OutputError, XcamError
from onnx_xcam.images import (
    COLOUR_MAPS,
    MAX_PIXELS,
    colour,
    find_images,
    overlay,
    read_image,
    read_photo,
    write_image,
)
from onnx_xcam.images import content as contents
from onnx_xcam.images import decode as decoding
from onnx_xcam.images import orientation as orienting


def photo(height: int = 20, width: int = 30) -> np.ndarray:
    """A picture without any symmetry."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 8 % 256, y * 12 % 256, (x + 2 * y) * 3 % 256], axis=-1).astype(np.uint8)


def encoded(suffix: str, array: np.ndarray, *options: int) -> bytes:
    """Encode RGB(A) or grey pixels with OpenCV alone."""
    order = [2, 1, 0, 3]
    bgr = array if array.ndim == 2 else array[..., order[: array.shape[2]]]
    done, data = cv2.imencode(suffix, np.ascontiguousarray(bgr), list(options))
    assert done
    return data.tobytes()


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def turned_jpeg(array: np.ndarray, orientation: int, order: str = "<") -> bytes:
    data = encoded(".jpg", array, cv2.IMWRITE_JPEG_QUALITY, 100)
    body = b"Exif\0\0" + exif(orientation, order)
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def turned_png(array: np.ndarray, orientation: int) -> bytes:
    data = encoded(".png", array)
    return data[:33] + png_chunk(b"eXIf", exif(orientation, ">")) + data[33:]


def turned_webp(array: np.ndarray, orientation: int) -> bytes:
    chunks = encoded(".webp", array, cv2.IMWRITE_WEBP_QUALITY, 101)  # above 100: lossless
    start = chunks.index(b"VP8L")
    (length,) = struct.unpack_from("<I", chunks, start + 4)
    height, width = array.shape[:2]
    wide = struct.pack("<II", 0x08, 0)[:4] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + wide + chunks[start : start + 8 + length + length % 2]
    body += b"EXIF" + struct.pack("<I", len(exif(orientation))) + exif(orientation)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def turned_tiff(array: np.ndarray, orientation: int) -> bytes:
    height, width = array.shape[:2]
    tags = [
        (256, width),
        (257, height),
        (258, 8 * array.itemsize),
        (259, 1),
        (262, 2),
        (273, 0),
        (0x0112, orientation),
        (277, 3),
    ]
    tags += [(278, height), (279, array.nbytes)]
    start = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", t, 4, 1, start if t == 273 else v) for t, v in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + array.tobytes()


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),  # a quarter turn clockwise
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("writer", [turned_png, turned_webp, turned_tiff])
def test_orientation_is_undone(tmp_path, writer, orientation):
    path = saved(tmp_path / "turned", writer(photo(), orientation))
    np.testing.assert_array_equal(read_image(path), UPRIGHT[orientation](photo()))


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_deep_tiff(tmp_path, orientation):
    path = saved(tmp_path / "p.tif", turned_tiff(photo().astype("<u2") * 257, orientation))
    np.testing.assert_array_equal(read_photo(path).pixels, UPRIGHT[orientation](photo().astype(np.uint16) * 257))


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("order", "<>")
def test_orientation_of_jpeg(tmp_path, orientation, order):
    smooth = np.zeros((16, 32, 3), np.uint8)
    smooth[:8, :16] = 200  # one bright quarter, along JPEG's own blocks
    got = read_image(saved(tmp_path / "p.jpg", turned_jpeg(smooth, orientation, order)))
    np.testing.assert_allclose(got, UPRIGHT[orientation](smooth), atol=2)


def test_orientation_applies_to_alpha(tmp_path):
    rgba = np.dstack([photo(), np.full((20, 30), 255, np.uint8)])
    rgba[:5, :5, 3] = 0
    got = read_image(saved(tmp_path / "p.png", turned_png(rgba, 6)))
    expected = photo()
    expected[:5, :5] = 255
    np.testing.assert_array_equal(got, np.rot90(expected, -1))


@pytest.mark.parametrize("orientation", [0, 9, 77])
def test_impossible_orientation_is_none(tmp_path, orientation):
    np.testing.assert_array_equal(read_image(saved(tmp_path / "p.png", turned_png(photo(), orientation))), photo())


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_orientation_of_avif(tmp_path, orientation):
    """AVIF has no EXIF orientation but item properties, irot and imir, as which Pillow writes it."""
    pytest.importorskip("PIL.AvifImagePlugin", reason="Pillow before 11.3 knows no AVIF")
    path = tmp_path / "p.avif"
    Image.fromarray(photo()).save(path, quality=100, subsampling="4:4:4", exif=exif(orientation))
    assert orienting.orientation_of(path.read_bytes(), path) == orientation
    if not cv2.haveImageReader(str(path)):
        pytest.skip("this OpenCV decodes no AVIF; only the header was looked at")
    np.testing.assert_allclose(read_image(path).astype(int), UPRIGHT[orientation](photo()), atol=6)


def test_orientation_that_a_png_tells_after_its_pixels(tmp_path):
    data = encoded(".png", photo())
    late = data[:-12] + png_chunk(b"eXIf", exif(6)) + data[-12:]
    np.testing.assert_array_equal(read_image(saved(tmp_path / "p.png", late)), np.rot90(photo(), -1))


def test_orientation_of_pictures_beyond_pillows_own_limit(tmp_path):
    """Below our limit and above the one from which `PIL.Image.open` refuses (179 million pixels)."""
    data = huge_png(15000, 15000)
    data = data[:33] + png_chunk(b"eXIf", exif(6)) + data[33:] + bytes(15000 * 15000 // 1000)  # as large as a photo
    assert orienting.orientation_of(data, tmp_path) == 6


@pytest.mark.parametrize("kept", range(27))
def test_damaged_exif_data_does_not_keep_a_picture_from_being_read(tmp_path, kept):
    data = encoded(".png", photo())
    damaged = data[:33] + png_chunk(b"eXIf", exif(6)[:kept]) + data[33:]
    got = read_image(saved(tmp_path / "p.png", damaged))
    told = kept >= 22  # header, count and the one entry
    np.testing.assert_array_equal(got, np.rot90(photo(), -1) if told else photo())


def no_decoder():
    raise AssertionError("OpenCV was asked to decode")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm", ".jp2", ".webp", ".jpg", ".gif"])
def test_the_size_is_known_before_anything_is_decoded(tmp_path, monkeypatch, suffix):
    options = (cv2.IMWRITE_WEBP_QUALITY, 80) if suffix == ".webp" else ()
    if suffix == ".gif" and not cv2.haveImageWriter("p.gif"):
        pytest.skip("OpenCV before 4.11 writes no GIF")
    path = saved(tmp_path / "p", encoded(suffix, photo(70, 90), *options))
    monkeypatch.setattr(contents, "MAX_PIXELS", 70 * 90)
    read_image(path)
    monkeypatch.setattr(contents, "MAX_PIXELS", 70 * 90 - 1)
    monkeypatch.setattr(decoding, "opencv", no_decoder)
    with pytest.raises(ImageError, match="90 x 70 pixels is more than the limit of 6299"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".ppm"])
def test_lossless_formats_come_back_as_they_were(tmp_path, suffix):
    np.testing.assert_array_equal(read_image(saved(tmp_path / f"p{suffix}", encoded(suffix, photo()))), photo())


def test_jpeg_is_rgb(tmp_path):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 250
    np.testing.assert_allclose(read_image(saved(tmp_path / "p.jpg", encoded(".jpg", red))), red, atol=3)


def test_grey_becomes_three_channels(tmp_path):
    grey = photo()[..., 0]
    got = read_image(saved(tmp_path / "p.png", encoded(".png", grey)))
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, axis=2))


def test_alpha_lies_over_white(tmp_path):
    rgba = np.zeros((1, 4, 4), np.uint8)
    rgba[0, :, :3] = (200, 100, 0)
    rgba[0, :, 3] = (0, 255, 51, 128)
    got = read_image(saved(tmp_path / "p.png", encoded(".png", rgba)))
    # 255 + (c - 255) * alpha / 255, rounded
    expected = [[255, 255, 255], [200, 100, 0], [244, 224, 204], [227, 177, 127]]
    np.testing.assert_array_equal(got[0], expected)


@pytest.mark.parametrize("name", ["фото кошки.png", "写真.png", "ünï 100%.png"])
def test_non_ascii_paths(tmp_path, name):
    write_image(tmp_path / name, photo())
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), photo())


def test_the_suffix_does_not_decide_what_is_read(tmp_path):
    np.testing.assert_array_equal(read_image(saved(tmp_path / "p.jpg", encoded(".png", photo()))), photo())


def huge_png(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"no picture at all", "not a picture"),
        (bytes(100), "not a picture"),
        (b"\xff\xd8", "truncated"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (huge_png(20000, 20000), "20000 x 20000 pixels is more than the limit"),
        (huge_png(2**31 - 1, 2**31 - 1), "more than the limit"),
        (b"P6\n40000 40000\n255\n", "40000 x 40000 pixels is more than the limit"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 40000 +X 40000\n", "more than the limit"),  # unknown to Pillow
        (encoded(".png", photo()).replace(b"IDAT", b"IDOT"), "not a picture|cannot read"),
    ],
)
def test_bad_files(tmp_path, data, message):
    path = saved(tmp_path / "bad.png", data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".jp2", ".ppm"])
@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
def test_truncated_files(tmp_path, suffix, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    data = encoded(suffix, noise)
    with pytest.raises(ImageError, match=r"truncated|not a picture|cannot read"):
        read_image(saved(tmp_path / "cut", data[: int(len(data) * kept)]))


@pytest.mark.parametrize("kept", [3, 25, 0.5, 0.9, -2, -1])
def test_a_truncated_jpeg_is_known_by_its_missing_end(tmp_path, monkeypatch, kept):
    """OpenCV 4 decodes it, the missing part grey; so it must be known before. A thumbnail's end is not the end."""
    data = turned_jpeg(photo(64, 96), 1)
    thumbnail = encoded(".jpg", photo(8, 8))
    data = data[:2] + b"\xff\xe2" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    read_image(saved(tmp_path / "p.jpg", data))
    if kept not in (3, 25):  # without any scan OpenCV 4 refuses it as well
        monkeypatch.setattr(decoding, "opencv", no_decoder)
    cut = data[: int(len(data) * kept)] if isinstance(kept, float) else data[:kept]
    with pytest.raises(ImageError, match="truncated"):
        read_image(saved(tmp_path / "cut.jpg", cut))


def test_jpeg_with_bytes_after_its_end_is_whole(tmp_path):
    data = encoded(".jpg", np.full((16, 16, 3), 90, np.uint8)) + b"trailer of a phone \xff\xd8\xff\xda and more"
    np.testing.assert_allclose(read_image(saved(tmp_path / "p.jpg", data)), 90, atol=1)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(f"{tmp_path}/a\0b.png")


@pytest.mark.skipif(os.name == "nt" or getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = saved(tmp_path / "p.png", encoded(".png", photo()))
    path.chmod(0)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image(path)


def test_find_images(tmp_path):
    folder = tmp_path / "photos"
    (folder / "deeper").mkdir(parents=True)
    (folder / "folder.png").mkdir()
    for name in ["b.JPG", "a.png", "notes.txt", ".hidden.png", "deeper/c.png"]:
        saved(folder / name, b"x")
    odd = saved(tmp_path / "odd.bin", b"x")
    assert find_images([odd, str(folder)]) == [odd, folder / "a.png", folder / "b.JPG"]
    (folder / "deeper" / "again").symlink_to(folder, target_is_directory=True)
    (folder / ".thumbnails").mkdir()
    saved(folder / ".thumbnails" / "d.png", b"x")
    assert find_images([folder], recursive=True) == [folder / name for name in ("a.png", "b.JPG", "deeper/c.png")]
    assert len(find_images([folder], recursive=True, leave_out=folder / "deeper")) == 2
    with pytest.raises(ImageError, match="no picture in this folder or those in it"):
        find_images([folder / "folder.png"], recursive=True)


def test_find_images_errors(tmp_path):
    with pytest.raises(ImageError, match="no picture in this folder"):
        find_images([tmp_path])
    with pytest.raises(ImageError, match=r"none\.png: no such file or folder"):
        find_images([tmp_path / "none.png"])


def test_write_image(tmp_path):
    for name, tolerance in (("p.png", 0), ("p.PNG", 0), ("p.jpg", 40), ("p.bmp", 0)):
        write_image(tmp_path / name, photo())
        np.testing.assert_allclose(read_image(tmp_path / name).astype(int), photo(), atol=tolerance)


@pytest.mark.parametrize("name", ["p.xyz", "p", "missing/p.png"])
def test_write_image_errors(tmp_path, name):
    with pytest.raises(OutputError, match="p"):
        write_image(tmp_path / name, photo())
    assert list(tmp_path.iterdir()) == []


def test_a_picture_that_is_cut_short_takes_no_place(tmp_path):
    """The disk takes less than the picture: neither half of it is there, nor is the one before lost."""
    resource = pytest.importorskip("resource", reason="no limits here")
    path, noise = tmp_path / "p.png", np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for there in (None, photo()):
        if there is not None:
            write_image(path, there)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
        try:
            with pytest.raises(OutputError, match=r"p\.png: cannot be written: File too large"):
                write_image(path, noise)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == ([] if there is None else [path])
    np.testing.assert_array_equal(read_image(path), photo())


def test_write_image_over_a_folder(tmp_path):
    (tmp_path / "p.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_image(tmp_path / "p.png", photo())


@pytest.mark.parametrize("name", COLOUR_MAPS)
def test_colour_is_opencvs_map_in_rgb(name):
    heat = np.linspace(0, 1, 256, dtype=np.float32)[None]
    expected = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], getattr(cv2, f"COLORMAP_{name.upper()}"))
    np.testing.assert_array_equal(colour(heat, name), expected[..., ::-1])


def test_default_colour_map_grows_evenly_lighter():
    lab = cv2.cvtColor(colour(np.linspace(0, 1, 32)[None]).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0, :, 0]
    steps = np.diff(lab)
    assert np.all(steps > 1.0)
    assert np.all(steps < 1.5 * steps.mean())


def test_colour_of_odd_values():
    got = colour(np.array([[np.nan, -1.0, 2.0, np.inf]]))
    np.testing.assert_array_equal(got, colour(np.array([[0.0, 0.0, 1.0, 1.0]])))


def test_unknown_colour_map():
    with pytest.raises(XcamError, match="did you mean viridis"):
        colour(np.zeros((2, 2)), "virids")


def test_overlay_leaves_cold_pixels_and_the_photo_alone():
    image = photo()
    image.flags.writeable = False
    heat = np.zeros((20, 30), np.float32)
    heat[5:10, 5:10] = 1.0
    got = overlay(image, heat, alpha=0.6)
    hot = heat > 0
    np.testing.assert_array_equal(got[~hot], image[~hot])
    expected = 0.4 * image[hot] + 0.6 * colour(np.ones((1, 1)))[0, 0]
    np.testing.assert_allclose(got[hot].astype(float), expected, atol=0.51)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_overlay_is_the_formula_to_the_last_bit(dtype):
    image, heat = photo(90, 70), np.random.default_rng(0).random((90, 70)).astype(dtype) * 1.2 - 0.1
    heat[3, 4:8] = np.nan, np.inf, -np.inf, -0.0
    levels = np.rint(np.clip(np.nan_to_num(heat, nan=0.0), 0, 1) * 255).astype(int)
    x = np.clip(levels / 255 / 0.6, 0, 1)
    opacity = 0.75 * (x * x * (3 - 2 * x))[..., None]
    tint = (colour(levels / 255) * opacity).astype(np.float32)
    expected = np.rint(image * (1 - opacity).astype(np.float32) + tint)
    np.testing.assert_array_equal(overlay(image, heat, alpha=0.75), expected)


def test_opacity_rises_with_heat():
    heat = np.linspace(0, 1, 200)[None].astype(np.float32)
    white = overlay(np.full((1, 200, 3), 255, np.uint8), heat).astype(int)
    black = overlay(np.zeros((1, 200, 3), np.uint8), heat).astype(int)
    through = (white - black)[0, :, 0]  # how much of the photo shows
    assert through[0] == 255
    assert np.all(np.diff(through) <= 1)
    assert through[-1] == pytest.approx(255 * 0.25, abs=1)


def test_overlay_over_many_bands_is_the_same_as_row_by_row():
    image, heat = photo(600, 200), np.random.default_rng(0).random((600, 200))
    rows = [overlay(image[i : i + 1], heat[i : i + 1]) for i in range(600)]
    np.testing.assert_array_equal(overlay(image, heat), np.concatenate(rows))


def test_overlay_beside():
    image, heat = photo(), np.random.default_rng(0).random((20, 30))
    both = overlay(image, heat, beside=True)
    assert both.shape == (20, 64, 3)
    np.testing.assert_array_equal(both[:, :30], image)
    assert np.all(both[:, 30:34] == 255)
    np.testing.assert_array_equal(both[:, 34:], overlay(image, heat))


def test_overlay_sets_off_what_was_not_seen():
    image = np.full((20, 30, 3), 200, np.uint8)
    seen = np.zeros((20, 30), bool)
    seen[:, 5:25] = True
    got = overlay(image, np.zeros((20, 30)), seen=seen)
    assert np.all(got[:, :5] == 130)
    assert np.all(got[:, 25:] == 130)
    assert np.all(got[:, [5, 24]] == 255)
    assert np.all(got[:, 6:24] == 200)  # no frame along the photo's own edge
    np.testing.assert_array_equal(overlay(image, np.zeros((20, 30)), seen=np.ones((20, 30), bool)), image)
    assert np.all(overlay(image, np.zeros((20, 30)), seen=np.zeros((20, 30), bool)) == 130)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 3)])
def test_overlay_of_tiny_pictures(shape):
    image = np.full((*shape, 3), 10, np.uint8)
    np.testing.assert_array_equal(overlay(image, np.ones(shape), alpha=1.0), colour(np.ones(shape)))


def test_overlay_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="photo's size"):
        overlay(photo(), np.zeros((7, 7)))
    with pytest.raises(ValueError, match="photo's size"):
        overlay(photo(), np.zeros((20, 30)), seen=np.ones((7, 7), bool))
    with pytest.raises(ValueError, match="alpha"):
        overlay(photo(), np.zeros((20, 30)), alpha=1.5)


def test_limit_is_below_opencvs_own():
    assert MAX_PIXELS < 2**30


@pytest.mark.parametrize(
    ("module", "advice"), [("cv2", ["opencv-python", "opencv-python-headless"]), ("PIL", ["Pillow", "pip install"])]
)
def test_a_missing_library_is_named(tmp_path, module, advice):
    """A fresh process in which it cannot be imported: the package loads, and the first use says what to install."""
    path = saved(tmp_path / "p.png", encoded(".png", photo()))
    code = (
        "import sys; sys.modules[sys.argv[2]] = None\n"
        "import onnx_xcam.images as images\n"
        "from onnx_xcam.errors import DependencyError\n"
        "try:\n    images.read_image(sys.argv[1])\n"
        "except DependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), module], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in advice)
    assert issubclass(DependencyError, XcamError)


def test_libraries_are_imported_only_when_used():
    code = (
        "import sys, onnx_xcam, onnx_xcam.surgery, onnx_xcam.images\n"
        "print([name for name in ('cv2', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_much_stated_in_few_bytes(tmp_path):
    """A picture of 16384 x 16384 in 60 bytes would take a gigabyte and ten seconds, all of it grey."""
    path = tmp_path / "bomb.png"
    header = b"IHDR" + struct.pack(">IIBBBBB", 16384, 16384, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(data + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT")))
    with pytest.raises(ImageError, match=r"states 16384 x 16384 pixels in only \d+ bytes"):
        read_image(path)


def test_opencvs_own_limit_is_ours(tmp_path):
    """It is four times as high, unless it is told otherwise when it is loaded."""
    data = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 20000 +X 20000\n"
    code = "import numpy; from onnx_xcam.images.backend import opencv\n"
    code += f"opencv().imdecode(numpy.frombuffer({data!r}, numpy.uint8), -1)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MAX_IMAGE_PIXELS" in done.stderr


def test_the_processs_warning_filters_are_left_as_they_are(tmp_path, monkeypatch):
    """Two threads that silence Pillow: were both within at once, the later one would bring back what the first set."""
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def opening(stream, path):
        if not first_in.is_set():
            first_in.set()
            second_in.wait(0.3)  # it cannot come while the lock is held
        else:
            second_in.set()
            first_out.wait(10)

    monkeypatch.setattr(orienting, "_open_header", opening)
    before = list(warnings.filters)
    first = threading.Thread(target=lambda: (orienting.orientation_of(b"", tmp_path), first_out.set()))
    second = threading.Thread(target=orienting.orientation_of, args=(b"", tmp_path))
    first.start()
    assert first_in.wait(10)
    second.start()
    first.join()
    second.join()
    assert warnings.filters == before
