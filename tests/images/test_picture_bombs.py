"""Files that would exhaust time or memory are refused before anything is decoded, and cost one photo, not the run."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image

from helpers.tiny_models import tiny
from onnx_xcam import Explainer
from onnx_xcam.errors import EncodingError, ImageError, InputError, LabelsError, OutputError, PreprocessError
from onnx_xcam.evaluation.evaluator import evaluate
from onnx_xcam.images import content as contents
from onnx_xcam.images import decode as decoding
from onnx_xcam.images import open_photo, read_image, read_mask
from onnx_xcam.images.headers import format_of, stated_size, without_long_texts
from onnx_xcam.images.write import encode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 47, 3), np.uint8)
BIG = 16384
"""A side of the largest picture that is taken."""


def by_opencv(suffix, pixels=PIXELS, options=()):
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def by_pillow(path, pixels=PIXELS, **options):
    Image.fromarray(pixels).save(path, **options)
    return path.read_bytes()


def with_bytes(data, at, new):
    return data[:at] + new + data[at + len(new) :]


def bmp(width, height, header=40):
    """8 bits, run-length encoded, at once at its end; the size of the header is what Pillow looks at."""
    fields = struct.pack("<IiiHHIIiiII", header, width, height, 1, 8, 1, 2, 0, 0, 256, 0) + bytes(header - 40)
    start = 14 + len(fields) + 1024
    return b"BM" + struct.pack("<IHHI", start + 2, 0, 0, start) + fields + bytes(1024) + b"\0\1"


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, *extra):
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    rows = zlib.compressobj(9)
    data = b"".join(rows.compress(bytes(1 + width)) for _ in range(min(height, 1000))) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


LONG_TEXT = chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(2 << 20), 9))
"""More than Pillow takes."""


def test_the_size_of_every_format_is_read_from_its_header(tmp_path):
    suffixes = [".png", ".jpg", ".bmp", ".webp", ".tif", ".jp2", ".ppm", ".pgm", ".pbm", ".pam", ".ras", ".hdr", ".pfm"]
    suffixes += [suffix for suffix in (".gif", ".avif") if cv2.haveImageWriter(f"x{suffix}")]
    files = {}
    for suffix in suffixes:
        grey = suffix in (".pgm", ".pbm")
        pixels = PIXELS[..., 0] if grey else PIXELS.astype(np.float32) / 255 if suffix in (".hdr", ".pfm") else PIXELS
        files[suffix] = by_opencv(suffix, pixels)
    files["gif"] = by_pillow(tmp_path / "p.gif")
    files["progressive"] = by_pillow(tmp_path / "p.jpg", progressive=True, exif=bytes(6) + bytes(40_000))
    files["lossless"] = by_pillow(tmp_path / "p.webp", lossless=True)
    files["with alpha"] = by_pillow(tmp_path / "a.webp", np.dstack([PIXELS, PIXELS[..., :1]]))
    files["code stream"] = by_pillow(tmp_path / "p.j2k")
    files["big-endian"] = by_pillow(tmp_path / "p.tif", PIXELS[..., 0].astype(">u2").astype(np.uint16))
    files["BigTIFF"] = by_pillow(tmp_path / "b.tif", big_tiff=True)
    files["old BMP"] = b"BM" + bytes(8) + struct.pack("<IIHHHH", 26, 12, 47, 40, 1, 24)
    files["upside down"] = bmp(47, -40)
    files["comments"] = b"P5 # wide\n#47 30\n 47 # and high\n40\n255\n" + bytes(47 * 40)
    files["OpenEXR"] = b"\x76\x2f\x31\x01" + b"dataWindow\0box2i\0" + struct.pack("<5i", 16, -2, 0, 44, 39)
    for name, data in files.items():
        kind = format_of(data[:32])
        assert kind is not None, name
        assert stated_size(data, kind) == (47, 40), name
        for cut in range(0, min(len(data), 400), 7):
            stated_size(data[:cut], kind)


BOMBS = {
    "bmp": bmp(BIG, BIG),
    "bmp, a header that Pillow does not know": bmp(BIG, BIG, 41),
    "bmp, higher than wide": bmp(2**14, -(2**14), 41),
    "png": png(BIG, BIG),
    "png, a long text": png(BIG, BIG, LONG_TEXT),
    "code stream": b"\xff\x4f\xff\x51"
    + struct.pack(">HHIIIIIIIIH", 47, 0, BIG, BIG, 0, 0, BIG, BIG, 0, 0, 3)
    + bytes(9),
    "Radiance": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 16384 +X 16384\n",
    "Radiance, the other way": b"#?RGBE\nFORMAT=32-bit_rle_rgbe\n\n-Y 16384 +X 16384\n",
    "pgm": b"P5\n16384 16384\n255\n",
    "pbm": b"P4\n16384 16384\n",
    "pfm": b"PF\n16384 16384\n-1.0\n",
    "pam": b"P7\nWIDTH 16384\nHEIGHT 16384\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n",
    "sun raster": struct.pack(">8I", 0x59A66A95, BIG, BIG, 24, BIG * BIG * 3, 2, 0, 0),
    "gif": with_bytes(b"GIF89a" + bytes(40), 6, struct.pack("<HH", BIG, BIG)),
    "webp": with_bytes(
        by_opencv(".webp", options=[cv2.IMWRITE_WEBP_QUALITY, 80]), 26, struct.pack("<HH", BIG - 1, BIG - 1)
    ),
    "jp2": by_opencv(".jp2").replace(struct.pack(">IIII", 47, 40, 0, 0), struct.pack(">IIII", BIG, BIG, 0, 0)),
    "OpenEXR": b"\x76\x2f\x31\x01" + b"dataWindow\0box2i\0" + struct.pack("<5i", 16, 0, 0, BIG - 1, BIG - 1),
    "tiff": b"II*\0\x08\0\0\0\2\0" + struct.pack("<HHIIHHII", 256, 4, 1, BIG, 257, 4, 1, BIG) + bytes(4),
    "tiff of large tiles": b"II*\0\x08\0\0\0\4\0"
    + b"".join(struct.pack("<HHII", tag, 4, 1, side) for tag, side in ((256, 8), (257, 8), (322, BIG), (323, BIG)))
    + bytes(4),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name, tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(BOMBS[name])
    for read in (read_image, read_mask):
        with pytest.raises(ImageError, match=r"states 163\d\d x 163\d\d pixels(?: of 16 bytes)? in only \d+ bytes"):
            read(path)


@pytest.mark.parametrize("data", [b"P5\n16385 16384\n255\n", bmp(BIG + 1, BIG, 41), png(BIG + 1, BIG, LONG_TEXT)])
def test_beyond_the_limit(data, tmp_path):
    path = tmp_path / "bomb"
    path.write_bytes(data)
    with pytest.raises(ImageError, match="16385 x 16384 pixels is more than the limit"):
        read_image(path)


def deep_png(width, height, length, depth=16, colours=6):
    """The header of a PNG, and chunks without pixels up to a length."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header
    return data + chunk(b"IDAT", bytes(length - len(data) - 24)) + chunk(b"IEND", b"")


def tiff_header(width, height, samples, bits, length):
    tags = {256: width, 257: height, 258: bits, 262: 1, 277: samples}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries).ljust(length, b"\0")


@pytest.mark.parametrize(
    ("data", "each"),
    [
        (deep_png(15000, 15000, 1_751_663), 8),
        (deep_png(15000, 15000, 1_700_000, colours=2), 6),
        (tiff_header(15000, 15000, 8, 8, 8_000_000), 8),
        (tiff_header(6000, 6000, 1, 64, 1_000_000), 8),
        (tiff_header(512, 600, 1000, 8, 1_000_000), 1000),
        (BOMBS["pam"].replace(b"16384", b"16000").replace(b"DEPTH 4", b"DEPTH 9").ljust(2_000_000), 9),
        (by_opencv(".jp2").replace(struct.pack(">IIII", 47, 40, 0, 0), struct.pack(">IIII", 9000, 9000, 0, 0)), None),
    ],
)
def test_what_a_pixel_takes_counts(data, each, monkeypatch):
    """A pixel takes 3 bytes, or a thousand; Deflate packs a thousand bytes of zeros in one."""
    monkeypatch.setattr(decoding, "_decoded_pixels", lambda *_: pytest.fail("decoded"))
    with pytest.raises(
        ImageError, match=rf"pixels{f' of {each} bytes' if each else ''} in only \d+ bytes; the file is"
    ):
        open_photo(data)


def test_scans_of_little_content_are_taken():
    """Flat scans of A3 at 600 dpi in 16 bits, drawings of all pixels in 8; what is larger needs a length."""
    contents.require_size(9921, 7016, 140_000, "a scan", 2)
    contents.require_size(BIG, BIG, 270_000, "a drawing", 1)
    contents.require_size(BIG, BIG, 11_000_000, "a scan", 8)
    with pytest.raises(ImageError, match="of 8 bytes in only 10000000 bytes"):
        contents.require_size(BIG, BIG, 10_000_000, "a scan", 8)
    with pytest.raises(ImageError, match="pixels of 12 bytes each are more than the limit of 2048 MiB; scale it down"):
        contents.require_size(BIG, BIG, 1_000_000_000, "floats", 12)


def test_a_jpeg_of_many_scans_is_not_decoded(tmp_path, monkeypatch):
    """Each of them goes through all pixels; of a small picture they cost little."""
    data = by_pillow(tmp_path / "p.jpg", progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    many = data[:-2] + scan * 200 + b"\xff\xd9"
    assert open_photo(many).size == (40, 47)
    at = many.index(b"\xff\xc2") + 5
    wide = with_bytes(many, at, struct.pack(">HH", 5000, 5000))
    monkeypatch.setattr(decoding, "_decoded_pixels", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=r"is a progressive JPEG of 2\d\d scans, which would take very long"):
        open_photo(wide)


def test_long_texts_of_a_png_are_not_unpacked():
    """OpenCV gets none of them, and the picture is the same."""
    data = by_opencv(".png", PIXELS[..., ::-1])
    texts = [chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(900 << 10), 9)) for _ in range(90)]
    long = data[:33] + b"".join(texts[:45]) + data[33:-12] + b"".join(texts[45:]) + data[-12:]
    assert without_long_texts(long) == data
    assert without_long_texts(data[:33] + texts[0] + data[33:]) == data[:33] + texts[0] + data[33:]
    np.testing.assert_array_equal(open_photo(long).pixels, PIXELS)


@pytest.mark.parametrize("shape", [(1,) * 70, (0, 2**70), (True, 1), (2**62, 0)])
def test_impossible_shapes_of_arrays(shape):
    header = str({"descr": "|u1", "fortran_order": False, "shape": shape}).encode()
    header += b" " * (64 - (len(header) + 11) % 64) + b"\n"
    with pytest.raises(ImageError, match=r"states an impossible shape|without pixels"):
        open_photo(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(80))


def test_an_array_of_python_2_is_read_without_a_warning():
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 3L)}\n"
    photo = open_photo(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + bytes(range(6)))
    assert photo.pixels.ravel().tolist() == list(range(6))


def test_images_of_pillow_are_no_bombs(tmp_path, monkeypatch):
    """An image that is still to be decoded from a file, whose pixels take 4 bytes each."""
    Image.new("RGBA", (900, 900)).save(tmp_path / "p.png")
    monkeypatch.setattr(contents, "_BOMB_DECODED", 2**20)
    open_photo(Image.new("RGBA", (900, 900)))
    with Image.open(tmp_path / "p.png") as image, pytest.raises(ImageError, match="in only"):
        open_photo(image)


def test_a_picture_with_a_long_text_is_read_and_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = by_opencv(".png", PIXELS[..., ::-1])
    path = tmp_path / "p.png"
    path.write_bytes(data[:33] + LONG_TEXT + chunk(b"eXIf", exif.tobytes()[6:]) + data[33:])
    np.testing.assert_array_equal(read_image(path), np.rot90(PIXELS, -1))


def test_what_has_no_size_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_decoded_pixels", lambda *_: pytest.fail("decoded"))
    cases = (b"\xff\x0a" + bytes(60), b"hello world", bytes(100), b"P5 x", b"BM", b"#?RADIANCE\n", b"II*\0" + bytes(40))
    for data in cases:
        path = tmp_path / "p"
        path.write_bytes(data)
        said = "a JPEG XL picture, which OpenCV does not read" if data[:2] == b"\xff\x0a" else "not a picture that"
        with pytest.raises(ImageError, match=said):
            read_image(path)


@pytest.mark.parametrize("kind", [b"IHDR", b"tEXt", b"IDAT", b"IEND"])
def test_a_chunk_longer_than_its_png_is_not_decoded(tmp_path, monkeypatch, kind):
    """OpenCV asks for the memory that the length of a chunk states, up to 4 GiB, before it reads the chunk."""
    data = png(40, 30, chunk(b"tEXt", b"Title\0a photo"))
    path = tmp_path / "p.png"
    path.write_bytes(data + bytes(100))
    assert read_image(path).shape == (30, 40, 3)  # what follows the last chunk is none
    monkeypatch.setattr(decoding, "_decoded_pixels", lambda *_: pytest.fail("decoded"))
    for length in (len(data), 1 << 31, (1 << 32) - 1):
        path.write_bytes(with_bytes(data, data.find(kind) - 4, struct.pack(">I", length)))
        with pytest.raises(ImageError, match="not a picture that OpenCV can read, or a damaged or truncated one"):
            read_image(path)


@pytest.mark.parametrize("exif", [b"", b"MM", b"II*\0\x08\0\0\0", b"x\0\0x\x9c\xed\xc1\1", b"Exif\0\0MM\0*"])
def test_damaged_exif_data_cost_only_the_orientation(tmp_path, exif):
    """Of a PNG whose long text Pillow refuses, so that its EXIF data are looked up by themselves."""
    path = tmp_path / "p.png"
    path.write_bytes(png(40, 30, LONG_TEXT, chunk(b"eXIf", exif)))
    assert read_image(path).shape == (30, 40, 3)


def test_files_that_are_too_large(tmp_path, monkeypatch):
    """A file with holes: it has the size, and takes no space. The largest picture must fit, in RGBA without packing."""
    assert 4 * contents.MAX_PIXELS < contents.MAX_BYTES
    path = tmp_path / "p.png"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ImageError, match="not a picture"):
        read_image(path)
    monkeypatch.setattr(contents, "MAX_BYTES", 3 << 20)
    data = by_opencv(".bmp")
    path.write_bytes(data + bytes((3 << 20) - len(data)))
    assert read_image(path).shape == PIXELS.shape
    path.write_bytes(data + bytes((3 << 20) - len(data) + 1))
    with pytest.raises(ImageError, match="the file has more than 3 MiB"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_no_files(tmp_path):
    pipe, model = tmp_path / "pipe.png", tmp_path / "m.onnx"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        with pytest.raises(ImageError, match="a device or a pipe, not a file"):
            read_image(path)
    onnx.save(tiny(), model)
    os.mkfifo(tmp_path / "labels.txt")
    os.mkfifo(tmp_path / "preprocess.json")
    os.mkfifo(tmp_path / "value.npy")
    for options, error in (
        ({"labels": tmp_path / "labels.txt"}, LabelsError),
        ({"preprocess": tmp_path / "preprocess.json"}, PreprocessError),
        ({"inputs": {"image": tmp_path / "value.npy"}}, InputError),
    ):
        with pytest.raises(error, match="a device or a pipe, not a file"):
            Explainer(model, **options)


# --- one photo, not the run ------------------------------------------------------------------------------------------


def test_memory_that_runs_out_is_one_photos_error(tmp_path):
    """In a process that gets half a GiB more than it has: the second photo's file alone is larger."""
    pytest.importorskip("resource", reason="no limits here")
    onnx.save(tiny(), tmp_path / "m.onnx")
    small, large = tmp_path / "a.png", tmp_path / "b.ppm"
    small.write_bytes(by_opencv(".png"))
    with large.open("wb") as file:  # no bomb: it has the bytes that it states, all of them holes
        file.write(b"P6\n16384 16384\n255\n")
        file.truncate(3 * BIG * BIG + 30)
    code = f"""
import resource, sys, warnings, cv2
warnings.simplefilter("ignore")
import onnx_xcam
from onnx_xcam.evaluation.evaluator import evaluate
explainer = onnx_xcam.Explainer({str(tmp_path / "m.onnx")!r}, threads=1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29),) * 2)
photos = [{str(small)!r}, {str(large)!r}, {str(small)!r}]
print([str(one.error) for one in explainer.stream(photos)])
try: explainer.explain(photos[1])
except onnx_xcam.XcamError as error: print(error)
print([one["error"] for one in evaluate({str(tmp_path / "m.onnx")!r}, photos, metrics=["drop"], threads=1)])
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("nothing tells what a process takes")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    said = f"{large}: there is not enough memory for this picture; scale it down first"
    assert done.stdout.splitlines() == [str(["None", said, "None"]), said, str([None, said, None])], done.stderr


def test_a_picture_that_cannot_be_encoded():
    wide = np.zeros((1, 70_000, 3), np.uint8)
    for suffix in (".jpg", ".webp"):
        with pytest.raises(EncodingError, match=rf"70000 x 1 pixels cannot be written as \{suffix}"):
            encode_image(wide, suffix)
    with pytest.raises(OutputError, match="this kind of picture"):
        encode_image(wide, ".xyz")
    assert issubclass(EncodingError, ImageError)


def test_a_picture_that_cannot_be_encoded_is_one_photos_error(tmp_path):
    """PNG holds no more than a million pixels in a row, here."""
    from onnx_xcam.cli import main

    onnx.save(tiny(), tmp_path / "m.onnx")
    cv2.imwrite(str(tmp_path / "a.png"), PIXELS)
    (tmp_path / "b.pgm").write_bytes(b"P5\n1000001 1\n255\n" + bytes(1_000_001))
    cv2.imwrite(str(tmp_path / "c.png"), PIXELS)
    photos = [str(tmp_path / name) for name in ("a.png", "b.pgm", "c.png")]
    sys_argv, out = sys.argv, tmp_path / "out"
    try:
        sys.argv = ["onnx-xcam", "explain", str(tmp_path / "m.onnx"), *photos, "-o", str(out), "--preprocess", "unit"]
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = sys_argv
    assert ended.value.code == 1
    lines = (out / "results.jsonl").read_text().splitlines()
    assert ["cannot be written as .png" in line for line in lines] == [False, True, False]


def test_evaluate_tells_of_a_bomb_in_its_record(tmp_path):
    (tmp_path / "bomb.bmp").write_bytes(BOMBS["bmp, a header that Pillow does not know"])
    (record,) = evaluate(tiny(), [tmp_path / "bomb.bmp"], metrics=["drop"])
    assert "made to exhaust the memory" in record["error"]
