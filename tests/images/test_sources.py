"""Every kind of source gives one and the same photo, in its own values, or is refused in a sentence that says why."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from helpers.pictures import npy, png
from onnx_xcam.errors import ImageError
from onnx_xcam.images import content as contents
from onnx_xcam.images import decode as decoding
from onnx_xcam.images import read_photo
from onnx_xcam.images.sources import Named, is_source, name_of, open_photo, opened

RGB = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
DEEP = np.random.default_rng(1).integers(0, 4096, (12, 17), np.uint16)


class Tensor:
    """What a tensor of another library offers: NumPy's protocol, and no more."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class TorchLike(Tensor):
    """A tensor of PyTorch that requires a gradient and lies elsewhere: only what is detached and copied converts."""

    ready = False

    def detach(self):
        return self

    def cpu(self):
        made = TorchLike(self.array)
        made.ready = True
        return made

    def __array__(self, dtype=None, copy=None):
        if not self.ready:
            raise TypeError("can't convert cuda:0 device type tensor to numpy.")
        return self.array


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(png(RGB))
    return path


def test_one_photo_from_every_source(file, tmp_path):
    data = file.read_bytes()
    (tmp_path / "p.npy").write_bytes(npy(RGB))
    sources = {
        "text": str(file),
        "path": file,
        "bytes": data,
        "bytearray": bytearray(data),
        "memoryview": memoryview(data),
        "open file": file.open("rb"),
        "unbuffered file": file.open("rb", buffering=0),
        "stream": io.BytesIO(data),
        "pillow": Image.fromarray(RGB),
        "pillow, not yet loaded": Image.open(file),
        "array": RGB,
        "array of another library": Tensor(RGB),
        "tensor": TorchLike(RGB),
        ".npy": tmp_path / "p.npy",
        ".npy in memory": npy(RGB),
        ".npy by columns": npy(np.asfortranarray(RGB)),
        ".npy of version 2": npy_of_version_2(RGB),
        "named": Named(data, "upload"),
    }
    for name, source in sources.items():
        photo = open_photo(source)
        assert is_source(source), name
        assert photo.pixels.dtype == np.uint8, name
        np.testing.assert_array_equal(photo.pixels, RGB, err_msg=name)
        assert (photo.white, photo.has_alpha, photo.remarks, photo.window) == (255, False, (), None), name
    for opened_file in (sources["open file"], sources["unbuffered file"], sources["pillow, not yet loaded"]):
        opened_file.close()


def npy_of_version_2(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, version=(2, 0))
    return stream.getvalue()


def test_names(file):
    with file.open("rb") as of_path, Image.open(file) as image:
        found = [name_of(one, "image 3") for one in (file, str(file), of_path, image, Named(b"", "upload"))]
        assert found == [str(file)] * 4 + ["upload"]
    for one in (b"", io.BytesIO(), RGB, Image.new("L", (2, 2))):
        assert name_of(one, "image 3") == "image 3"
    with pytest.raises(ImageError, match=r"^image 3: not a picture"):
        open_photo(b"hello", "image 3")
    with pytest.raises(ImageError, match=r"^upload: not a picture"):
        open_photo(Named(b"hello", "upload"), "image 3")


@pytest.mark.parametrize(
    ("array", "white"),
    [
        (DEEP, 65535.0),
        (DEEP[..., None], 65535.0),
        (DEEP.astype(np.uint32), 2.0**32 - 1),
        (DEEP.astype(np.int16) - 1024, None),
        (DEEP.astype(np.int64), None),
        (DEEP.astype(np.float32) / 7 - 100, 1.0),
        (DEEP.astype(np.float16), 1.0),
        (DEEP.astype(">u2"), 65535.0),
        (np.random.default_rng(2).random((5, 6, 13), np.float32), 1.0),
        (np.zeros((5, 6, 2), np.uint8), 255.0),
    ],
)
def test_arrays_keep_their_own_values(array, white):
    for source in (array, Tensor(array), npy(array)):
        photo = open_photo(source)
        assert photo.white == white
        assert not photo.has_alpha
        assert photo.pixels.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(photo.pixels, array if array.ndim == 3 else array[..., None])


def test_arrays_are_not_copied_where_they_need_not_be():
    assert np.shares_memory(open_photo(RGB).pixels, RGB)
    assert np.shares_memory(open_photo(Tensor(DEEP)).pixels, DEEP)
    assert open_photo(RGB[:, ::-1]).pixels.flags.c_contiguous
    assert open_photo(RGB.astype(np.longdouble)).pixels.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_four_channels_are_colours_and_alpha(dtype):
    rgba = np.dstack([RGB, RGB[..., :1]]).astype(dtype)
    assert open_photo(rgba).has_alpha
    assert not open_photo(rgba.astype(np.float32)).has_alpha


def test_the_order_of_colours_is_said_of_arrays_only(file, tmp_path):
    np.testing.assert_array_equal(open_photo(RGB[..., ::-1], channels="BGR").pixels, RGB)
    np.testing.assert_array_equal(open_photo(Tensor(RGB[..., ::-1]), channels="BGR").pixels, RGB)
    np.testing.assert_array_equal(open_photo(npy(RGB[..., ::-1]), channels="BGR").pixels, RGB)
    rgba = np.dstack([RGB, RGB[..., :1]])
    np.testing.assert_array_equal(open_photo(rgba[..., [2, 1, 0, 3]], channels="BGR").pixels, rgba)
    np.testing.assert_array_equal(open_photo(DEEP, channels="BGR").pixels[..., 0], DEEP)
    np.testing.assert_array_equal(open_photo(file, channels="RGB").pixels, RGB)
    for source in (file, file.read_bytes(), Image.fromarray(RGB)):
        with pytest.raises(ImageError, match="channels is of arrays; a file or an image of Pillow states its order"):
            open_photo(source, channels="BGR")
    with pytest.raises(ImageError, match="has 6 channels, which are in no order BGR"):
        open_photo(np.zeros((5, 5, 6), np.uint8), channels="BGR")
    with pytest.raises(ImageError, match="channels is of pictures"):
        opened(np.zeros((1, 3, 4, 4), np.float32), channels="BGR")
    for wrong in ("bgr", "GRAY", 3):
        with pytest.raises(ImageError, match="it says the order of an array's colours: 'RGB' or 'BGR'"):
            open_photo(RGB, channels=wrong)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8), np.uint8), r"not \[3, 8, 8\]; move the channels last: x\.transpose\(1, 2, 0\)"),
        (np.zeros((1, 224, 224), np.float32), r"x\.permute\(1, 2, 0\).*add the axis of images: x\[None\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"not \[2, 4, 4, 3\]"),
        (np.zeros(4, np.uint8), r"not \[4\]"),
        (np.float32(3), r"not \[\]"),
        (np.zeros((0, 4, 3), np.uint8), "without pixels"),
        (np.zeros((4, 4), bool), r"not bool; for black and white: \(x \* 255\)"),
        (np.zeros((4, 4), complex), "not complex128"),
        (np.array([["a"]]), "not <U1"),
        (np.zeros((4, 4), [("r", "u1"), ("g", "u1")]), "must hold whole or floating-point numbers"),
        (np.ma.masked_equal(np.zeros((4, 4), np.uint8), 0), r"masked places show; fill them: x\.filled\(0\)"),
        (np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (2**15, 2**14, 3), (0, 0, 0)), "more than the limit"),
    ],
)
def test_arrays_that_are_no_pictures(array, message):
    with pytest.raises(ImageError, match=message):
        open_photo(array)


def test_a_tensor_that_cannot_be_converted_says_how():
    class Bad(Tensor):
        def __array__(self, dtype=None, copy=None):
            raise TypeError("Got unsupported ScalarType BFloat16")

    with pytest.raises(
        ImageError, match=r"this Bad cannot become a NumPy array \(Got unsupported .*\.float\(\)\.numpy"
    ):
        open_photo(Bad(RGB))


@pytest.mark.parametrize("source", [None, 5, [[1, 2]], {"a": 1}, {1}, object()])
def test_what_is_no_source(source):
    assert not is_source(source)
    with pytest.raises(ImageError, match="is no picture; give a path, the bytes of a file, an open file, an array"):
        open_photo(source)


# --- images of Pillow ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "La", "RGBa", "RGBX"])
def test_modes_of_pillow(mode):
    image = Image.fromarray(np.dstack([RGB, RGB[..., :1]])).convert("RGB")
    if mode in ("La", "RGBa"):
        image = image.convert(mode[:-1].upper() + "A")
    image = image.convert(mode)
    photo = open_photo(image)
    grey = mode in ("1", "L", "LA", "La")
    assert photo.has_alpha == (mode in ("LA", "RGBA", "La", "RGBa"))
    assert photo.colours == (1 if grey else 3)
    plain = image.convert(mode.upper()) if mode in ("La", "RGBa") else image
    wanted = np.asarray(plain.convert("L" if grey else "RGB"))
    np.testing.assert_array_equal(photo.pixels[..., : photo.colours].reshape(wanted.shape), wanted)


@pytest.mark.parametrize(
    ("values", "mode", "white"),
    [
        (DEEP, "I;16", 65535.0),
        (DEEP.astype(np.int32) * 100, "I", None),
        (DEEP.astype(np.float32) / 7 - 100, "F", 1.0),
    ],
)
def test_deep_images_of_pillow_keep_their_values(values, mode, white):
    image = Image.fromarray(values)
    assert image.mode == mode
    photo = open_photo(image)
    assert (photo.white, photo.pixels.dtype) == (white, values.dtype)
    np.testing.assert_array_equal(photo.pixels[..., 0], values)


def test_big_endian_and_transparent_images_of_pillow():
    image = Image.frombytes("I;16B", (17, 12), DEEP.astype(">u2").tobytes())
    np.testing.assert_array_equal(open_photo(image).pixels[..., 0], DEEP)
    stream = io.BytesIO()
    Image.fromarray(RGB).quantize(8).save(stream, "PNG", transparency=0)
    with Image.open(stream) as palette:
        photo = open_photo(palette)
        assert photo.has_alpha
        np.testing.assert_array_equal(photo.pixels, np.asarray(palette.convert("RGBA")))
    stream = io.BytesIO()
    Image.fromarray(RGB[..., 0]).save(stream, "PNG", transparency=int(RGB[0, 0, 0]))
    with Image.open(stream) as grey:
        photo = open_photo(grey)
        assert (photo.channels, photo.has_alpha) == (2, True)
        assert photo.pixels[0, 0, 1] == 0


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_of_pillow_are_turned_as_files_are(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"p.{kind.lower()}"
    Image.fromarray(RGB).save(path, kind, exif=exif, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {}))
    with Image.open(path) as image:
        turned = open_photo(image).pixels
        assert turned.shape == read_photo(path).pixels.shape
        np.testing.assert_allclose(turned.astype(int), read_photo(path).pixels, atol=3)  # two decoders of JPEG


def test_an_image_of_pillow_is_left_as_it_was():
    image = Image.fromarray(RGB)
    image.getexif()[0x0112] = 6
    open_photo(image)
    assert image.size == (17, 12)
    assert image.getexif()[0x0112] == 6


def test_images_of_pillow_that_cannot_be_loaded(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(png(RGB)[:300])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"p\.png: Pillow cannot load this image \("):
        open_photo(image)
    path.write_bytes(png(RGB))
    image = Image.open(path)
    image.close()
    with pytest.raises(ImageError, match=r"p\.png: Pillow cannot load this image \("):
        open_photo(image)
    with pytest.raises(ImageError, match="without pixels"):
        open_photo(Image.new("L", (0, 4)))


def test_the_size_of_an_image_is_checked_before_pillow_loads_it(monkeypatch):
    header = struct.pack(">IIBBBBB", 16000, 16000, 8, 0, 0, 0, 0)
    data = png(RGB)
    bomb = data[:16] + header + struct.pack(">I", __import__("zlib").crc32(b"IHDR" + header)) + data[33:]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(io.BytesIO(bomb)) as image:
        monkeypatch.setattr(type(image), "load", lambda self: pytest.fail("loaded"))
        with pytest.raises(ImageError, match="states 16000 x 16000 pixels in only"):
            open_photo(image)


def test_several_frames_are_told():
    stream = io.BytesIO()
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(stream, "TIFF", save_all=True, append_images=frames[1:])
    with Image.open(stream) as image:
        image.seek(1)
        photo = open_photo(image)
    assert photo.remarks == ("it holds several pictures, of which the current one is taken",)
    np.testing.assert_array_equal(photo.pixels, 255 - RGB)


# --- files that lie, and files that are something else ----------------------------------------------------------------


def test_a_npy_file_that_lies(monkeypatch):
    monkeypatch.setattr(decoding, "_decoded_pixels", lambda *_: pytest.fail("decoded"))
    data = npy(RGB)
    shape, kind = b"(12, 17, 3)", b"'|u1'"
    for lie in (b"(12, 99, 3)", b"(99, 17, 3)", b"(-1,-17, 3)"):
        with pytest.raises(ImageError, match=r"states \[-?\d+, -?\d+, 3\] numbers of uint8, but only 612 bytes follow"):
            open_photo(data.replace(shape, lie))
    damaged = [data[:8], data[:40], data.replace(shape, b"__import__("), data.replace(shape, b"(2**40,1,3)")]
    damaged += [data.replace(kind, b"'|zz'"), data.replace(b"False", b"1/0  "), data.replace(shape, b"(" * 11)]
    for one in damaged:
        with pytest.raises(ImageError, match=r"the header of this \.npy file is damaged; write it with numpy\.save"):
            open_photo(one)
    with pytest.raises(ImageError, match="holds object, not numbers"):
        open_photo(data.replace(kind, b"'|O' "))
    with pytest.raises(ImageError, match=r"is a \.npy file of version 9\.0, which is not read"):
        open_photo(data[:6] + b"\x09" + data[7:])


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"\x1f\x8b\x08", "packed with gzip; unpack it first"),
        (b"PK\x03\x04", "a zip archive, such as an .npz"),
        (b"%PDF-1.7", "a PDF document"),
        (b"<!DOCTYPE html>", "a web page or an SVG drawing"),
        (b"<svg xmlns=", "a web page or an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a HEIC picture, which OpenCV does not read"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video; save the frame"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
        (bytes(344) + b"n+1\0", "a NIfTI volume, which is not supported; save the slice"),
        (b"NRRD0004\n", "an NRRD volume"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    ],
)
def test_files_that_are_something_else_say_what_they_are(start, said, tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(start + bytes(600))
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match=said):
            open_photo(source)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("https://example.org/cat.jpg", "^https://example.org/cat.jpg: is an address, and nothing is downloaded; save"),
        ("s3://bucket/cat.jpg", "^s3://bucket/cat.jpg: is an address, and nothing is downloaded"),
        ("gs://bucket/cat.jpg", "is an address, and nothing is downloaded"),
        ("file:///home/me/cat.jpg", "is an address; give the path of the file alone"),
        ("data:image/png;base64,iVBORw0KGgo=", "is a data address, not a file; decode it"),
        ("data:image/png;base64," + "iVBORw0KGgo" * 1000, "is a data address, not a file; decode it"),
        ("no-such-file.png", "no such file"),
    ],
)
def test_addresses_are_answered(address, said):
    from pathlib import Path

    for source in (address, Path(address)):
        with pytest.raises(ImageError, match=said) as caught:
            open_photo(source)
        assert len(str(caught.value)) < 400


def test_open_files_are_read_from_where_they_are_and_up_to_the_limit(file, monkeypatch):
    data = file.read_bytes()
    stream = io.BytesIO(b"header" + data)
    stream.seek(6)
    np.testing.assert_array_equal(open_photo(stream).pixels, RGB)
    with pytest.raises(ImageError, match=r"nothing is left to read in this file; file\.seek\(0\)"):
        open_photo(stream)
    with file.open(encoding="latin-1") as text, pytest.raises(ImageError, match=r"gives str, not bytes; open it with"):
        open_photo(text)
    with file.open("rb") as closed:
        pass
    with pytest.raises(ImageError, match=r"p\.png: cannot be read: .*closed"):
        open_photo(closed)
    with pytest.raises(ImageError, match=r"the file is empty \(0 bytes\)"):
        open_photo(b"")

    class Endless:
        """Gives a few bytes at once, as a socket does, and never ends."""

        given = 0

        def read(self, size):
            self.given += 100
            return (data * 9)[:100]

    for limit in (3 << 20, 1 << 20):
        monkeypatch.setattr(contents, "MAX_BYTES", limit)
        endless = Endless()
        with pytest.raises(ImageError, match=f"the file has more than {limit >> 20} MiB"):
            open_photo(endless)
        assert endless.given <= limit + 1000
    with pytest.raises(ImageError, match="the file has more than 1 MiB"):
        open_photo(data + bytes(1 << 20))
