"""Seeds and mutators for pictures, preprocessing descriptions and labels files."""

from __future__ import annotations

import copy
import io
import json
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from helpers.fuzz.mutated_models import damaged
from helpers.fuzz.producer_files import FILES, METADATA

Case = tuple[str, bytes]
"""A file's suffix, and what is in it."""


@cache
def pictures() -> tuple[Case, ...]:
    """Small good pictures of all formats and kinds."""
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 255, (17, 23, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    found: list[Case] = []

    def add(suffix: str, image: Image.Image, **options: Any) -> None:
        stream = io.BytesIO()
        image.save(stream, **options)
        found.append((suffix, stream.getvalue()))

    for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"):
        image = Image.fromarray(rng.integers(0, 65535, (17, 23), np.uint16)) if mode == "I;16" else rgb.convert(mode)
        add(".png", image, format="PNG")
        add(".tif", image, format="TIFF")
    for mode in ("RGB", "L", "CMYK"):
        add(".jpg", rgb.convert(mode), format="JPEG", exif=exif)
    add(".jpg", rgb, format="JPEG", progressive=True)
    add(".png", rgb, format="PNG", exif=exif)
    add(".tif", rgb, format="TIFF", compression="tiff_lzw", exif=exif)
    add(".tif", rgb, format="TIFF", compression="tiff_adobe_deflate")
    add(".tif", rgb.convert("CMYK"), format="TIFF")
    add(".bmp", rgb, format="BMP")
    add(".bmp", rgb.convert("P"), format="BMP")
    add(".gif", rgb.convert("P"), format="GIF")
    add(".gif", rgb.convert("P"), format="GIF", save_all=True, append_images=[rgb.convert("P")] * 2)
    add(".webp", rgb, format="WEBP", exif=exif)
    add(".webp", rgb.convert("RGBA"), format="WEBP", lossless=True)
    add(".ppm", rgb, format="PPM")
    add(".pgm", rgb.convert("L"), format="PPM")
    add(".jp2", rgb, format="JPEG2000")
    found.append((".pfm", b"PF\n4 3\n-1.0\n" + np.linspace(0, 2, 36, dtype=np.float32).tobytes()))
    found.append((".pam", b"P7\nWIDTH 4\nHEIGHT 3\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(36)))
    found.append((".ras", struct.pack(">8I", 0x59A66A95, 4, 3, 24, 36, 1, 0, 0) + bytes(36)))
    found.append((".hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 3 +X 4\n" + bytes(48)))
    return tuple(found)


def picture(random: Random) -> Case:
    """A damaged picture, or one that states another size."""
    suffix, data = random.choice(pictures())
    if random.random() < 0.25:
        data = _restated(random, suffix, data)
        if random.random() < 0.6:
            return suffix, data
    if suffix == ".png" and random.random() < 0.5:
        return suffix, _png_chunks(random, data)
    return (random.choice((suffix, ".png", "", ".jpg")) if random.random() < 0.1 else suffix), damaged(random, data)


def array(random: Random) -> Case:
    """A damaged .npy file, or a damaged DICOM file, mostly in its header."""
    if random.random() < 0.5:
        return ".npy", _npy(random)
    data = _dicom(random)
    return ".dcm", damaged(random, data) if random.random() < 0.6 else data


_SHAPES = ("(5, 7)", "(5, 7, 3)", "(1, 3, 5, 7)", "(105,)", "()", "(0, 7)", "(-1, 7)", "(5, 7, 1025)", "5", "(5, '7')")
_SHAPES += (f"({2**62}, 7)", f"(0, {2**70})", "(True, 1)", str((1,) * 70), "(99999, 99999)", "(1.0, 7)", "None")
_TYPES = ("<f4", "|u1", ">u2", "<i8", "<f2", "|b1", "<c8", "|O", "<M8[s]", "|V7", "<U3", "|S0", "<f16", "x", "|u1,|u1")


def _npy(random: Random) -> bytes:
    """A .npy file whose header states one of many shapes and types."""
    header = {"descr": random.choice(_TYPES), "fortran_order": random.choice((True, *[False] * 8, "x"))}
    text = f"{{'descr': {header['descr']!r}, 'fortran_order': {header['fortran_order']!r}, 'shape': "
    odd_ends = (", }", "", ", 'x': 1}", "}" + " " * 20_000, "L}")
    text += random.choice(_SHAPES) + (random.choice(odd_ends) if random.random() < 0.2 else "}")
    version, form = random.choice(((b"\1\0", "<H"),) * 7 + ((b"\2\0", "<I"), (b"\3\0", "<I"), (b"\7\1", "<H")))
    coded = text.encode() + b"\n"
    length = len(coded) if random.random() < 0.9 else random.choice((0, 1, 60_000))
    data = b"\x93NUMPY" + version + struct.pack(form, length) + coded
    data += random.choice((bytes(840), b"\xff" * 840, random.randbytes(840), b""))
    return damaged(random, data) if random.random() < 0.3 else data


def _dicom(random: Random) -> bytes:
    """A DICOM file in explicit VR of the lesser byte order, some of whose elements hold something odd."""
    ordinary, odd = random.choice((0.0, 0.2, 0.5)), (b"", b"\0\0", b"\xff\xff", b"-1", b"9" * 30, b"nan", b"1e400")

    def element(tag: int, kind: bytes, value: bytes) -> bytes:
        value = random.choice(odd) if random.random() < ordinary / 4 else value
        value += b"\0" * (len(value) % 2)
        head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind
        if kind in (b"OB", b"OW", b"SQ", b"UN"):
            return head + b"\0\0" + struct.pack("<I", len(value)) + value
        return head + struct.pack("<H", len(value)) + value

    def short(tag: int, value: int) -> bytes:
        if random.random() < ordinary / 4:
            value = random.choice((0, 1, 7, 255, 4096, 65535))
        return element(tag, b"US", struct.pack("<H", value))

    plain, packed = b"1.2.840.10008.1.2.1", (b"1.2.840.10008.1.2.5", b"1.2.840.10008.1.2.4.50", b"1.2.3")
    syntax = random.choice((*[plain] * 7, *packed))
    photometric, samples = random.choice(
        ((b"MONOCHROME2", 1), (b"MONOCHROME1", 1), (b"RGB", 3), (b"YBR_FULL", 3), (b"PALETTE COLOR", 1), (b"X", 2))
    )
    bits = random.choice((1, 8, 16, 32))
    meta = element(0x00020010, b"UI", syntax)
    body = short(0x00280002, samples) + element(0x00280004, b"CS", photometric) + short(0x00280006, 0)
    body += element(0x00280008, b"IS", random.choice((*[b"1"] * 6, b"2", b"99999999", b"-1")))
    body += short(0x00280010, 5) + short(0x00280011, 7) + short(0x00280100, bits) + short(0x00280101, min(bits, 12))
    body += short(0x00280102, min(bits, 12) - 1) + short(0x00280103, random.choice((0, 1)))
    body += element(0x00281050, b"DS", random.choice((b"40", b"40\\50", b"x", b"1e999")))
    body += element(0x00281051, b"DS", random.choice((b"400", b"0", b"-1", b"400\\1")))
    body += element(0x00281052, b"DS", random.choice((b"-1024", b"nan", b"1e39")))
    body += element(0x00281053, b"DS", random.choice((b"1", b"0", b"2.5", b"1e39")))
    length = 35 * samples * bits // 8 if random.random() < 0.8 else random.choice((0, 35, 70, 210, 420))
    body += element(0x7FE00010, b"OW", random.randbytes(length))
    return bytes(128) + b"DICM" + element(0x00020000, b"UL", struct.pack("<I", len(meta))) + meta + body


def name(random: Random) -> Case:
    """A name of published weights, spelt wrongly."""
    library = random.choice(("timm", "torchvision", "keras", "TIMM", "timm ", "", "clip"))
    weights = random.choice(
        ("resnet50.a1_in1k", "resnet50", "ResNet50_Weights.DEFAULT", "vit_b_16", "ResNet50", "", ".", "x." * 300)
    )
    text = f"{library}:{weights}".encode()
    return ".txt", damaged(random, text) if random.random() < 0.7 else text


def _restated(random: Random, suffix: str, data: bytes) -> bytes:
    """Another width and height in the header, up to gigantic."""
    width, height = (random.choice((0, 1, 5000, 16384, 40000, 65500, 2**24, 2**31 - 1)) for _ in "wh")
    restate = _RESTATE.get(suffix)
    return damaged(random, data) if restate is None else restate(data, width, height)


def _png(data: bytes, width: int, height: int) -> bytes:
    header = struct.pack(">II", width, height) + data[24:29]
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


def _jpeg(data: bytes, width: int, height: int) -> bytes:
    at = max(data.find(marker) for marker in (b"\xff\xc0", b"\xff\xc2"))
    return data[: at + 5] + struct.pack(">HH", height % 65536, width % 65536) + data[at + 9 :]


def _tiff(data: bytes, width: int, height: int) -> bytes:
    for tag, value in ((256, width), (257, height)):
        at = data.find(struct.pack("<HHI", tag, 3, 1))
        if at > 0:
            data = data[:at] + struct.pack("<HHII", tag, 4, 1, value) + data[at + 12 :]
    return data


def _text_header(data: bytes, width: int, height: int) -> bytes:
    data = data.replace(b"23 17", b"%d %d" % (width, height)).replace(b"WIDTH 4", b"WIDTH %d" % width)
    return data.replace(b"4 3\n", b"%d %d\n" % (width, height)).replace(b"-Y 3 +X 4", b"-Y %d +X %d" % (height, width))


_RESTATE: Mapping[str, Callable[[bytes, int, int], bytes]] = {
    ".png": _png,
    ".jpg": _jpeg,
    ".tif": _tiff,
    ".bmp": lambda data, width, height: data[:18] + struct.pack("<ii", width, height) + data[26:],
    ".gif": lambda data, width, height: data[:6] + struct.pack("<HH", width % 65536, height % 65536) + data[10:],
    ".ras": lambda data, width, height: data[:4] + struct.pack(">II", width, height) + data[12:],
    **dict.fromkeys((".ppm", ".pgm", ".pam", ".pfm", ".hdr"), _text_header),
}


def _png_chunks(random: Random, data: bytes) -> bytes:
    """Chunks of a PNG damaged, doubled or invented, with right checksums."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    for _ in range(random.choice((1, 1, 2, 3))):
        where = random.randrange(len(chunks))
        how = random.randrange(4)
        kind, body = chunks[where]
        if how == 0:
            chunks[where] = (kind, damaged(random, body) if body else b"")
        elif how == 1:
            chunks.insert(where, chunks[random.randrange(len(chunks))])
        elif how == 2 and len(chunks) > 1:
            del chunks[where]
        else:
            invented = random.choice(
                (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"gAMA", b"IHDR")
            )
            text = random.choice(
                (
                    b"",
                    b"Raw profile type exif\x00\n",
                    b"x\x00\x00" + zlib.compress(bytes(10**6)),
                    b"II*\x00\x08\x00\x00\x00",
                    random.randbytes(20),
                )
            )
            chunks.insert(where, (invented, text))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return data[:8] + b"".join(parts)


# --- descriptions -----------------------------------------------------------------------------------------------------

_PREPROCESS: tuple[dict[str, Any], ...] = (
    {
        "size": [224, 224],
        "resize": "crop",
        "crop_fraction": 0.875,
        "scale": "1/255",
        "mean": [0.5, 0.5, 0.5],
        "std": [1, 1, 1],
    },
    {"preset": "imagenet", "size": 64, "interpolation": "cubic", "channels": "BGR", "layout": "NHWC", "pad_value": 3},
    {
        "do_resize": True,
        "do_center_crop": True,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "size": {"shortest_edge": 256},
        "crop_size": {"height": 224, "width": 224},
        "resample": 3,
        "rescale_factor": 0.0039,
    },
    {
        "do_resize": True,
        "size": 224,
        "resample": 2,
        "image_mean": [0.5],
        "crop_pct": 0.9,
        "include_top": True,
        "rescale_offset": True,
    },
    {
        "architecture": "x",
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "crop_pct": 0.9,
            "crop_mode": "center",
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
        },
    },
)
_PREPROCESS += tuple(
    {"preset": f"{library}:{name}"}
    for library, name in (
        ("timm", "resnet50.a1_in1k"),
        ("timm", "resnet50"),
        ("torchvision", "ResNet50_Weights.DEFAULT"),
        ("keras", "ResNet50"),
    )
)
_LABELS: tuple[Any, ...] = (
    ["a", "b", "c"],
    {"0": "a", "1": "b"},
    {"id2label": {"0": "a", "1": "b"}},
    {"names": ["a", "b"]},
    {"0": ["n01440764", "tench"]},
    {"label2id": {"a": 0, "b": 1}},
    {"a": 0, "b": 1},
    {"names": {0: "a", 1: "b"}},
)
_ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1,
    10**30,
    1e308,
    -1e-320,
    float("nan"),
    float("inf"),
    "",
    "1/0",
    "1/1e-320",
    "9" * 5000,
    "x" * 5000,
    "\ud800",
    "\x1b[2J",
    [],
    {},
    [[]],
    [None],
    {"": {}},
    [1, 2],
    ["a", 1],
    {"height": 5},
    {"shortest_edge": [1]},
    "²",
    "٣",
    [0, 0, 0],
    2**31,
    "../..",
    "CON",
)
_TEXTS = (
    b"0: a\n1: b\n",
    b"a\nb\nc\n",
    b"n01440764 tench\nn01443537 goldfish\n",
    b"0 a\n1 b\n",
    "é\nß\n".encode(),
    "\ufeffa\nb".encode(),
    "a\nb".encode("utf-16"),
    b"\x00\x00",
    b"999999999999999999999: a\n",
    "٣: a\n².b".encode(),
    b"5\t5\n",
    b"\r\r\r",
    b"0:\n0:\n",
    b"1: a\n",
)
_YAML = (
    "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nnames: [*c]",
    "names: &a [*a]",
    "&a {names: *a}",
    "&a [*a]",
    "!!python/object/apply:os.system ['true']",
    "!!int ''",
    "!!float ''",
    "!!bool x",
    "!!timestamp x",
    "!!binary x",
    "!!set {a, b}",
    "!!omap [a]",
    "? [a]\n: b",
    "{0: a, 0: b}",
    "- - - - a",
    "names: !!null x",
    "2001-99-99",
    "0: 2001-01-01",
    "1_0: a",
    "0x1: a",
    "190:20:30: a",
    "<<: [a]",
    "<<: {a: b}",
    "%YAML 9.9\n---\na",
    "---\na\n---\nb",
    "a: b: c",
    "size: .inf\nmean: .nan",
    "scale: 1e400",
    "size: !!python/tuple [1, 2]",
    "\t- a",
    "key: [unclosed",
    "*x",
    "&x",
    "!<tag:yaml.org,2002:int> ''",
    "[" * 2000,
    "{" * 2000,
    "- " * 2000 + "a",
    "? " * 1500,
)


def preprocessing(random: Random) -> Case:
    """A damaged preprocessing file: in our own settings, in a dialect, or the metadata of a model as JSON."""
    how = random.random()
    if how < 0.4:
        return _description(random, random.choice(_PREPROCESS))
    if how < 0.6:
        return ".json", _description(random, random.choice(METADATA), (".json",))[1]
    name, data = random.choice(FILES)
    suffix = Path(name).suffix
    if isinstance(data, str):
        return suffix, damaged(random, data.encode())
    return _description(random, data, (suffix,))


def labels(random: Random) -> Case:
    """A damaged labels file: text, JSON or YAML."""
    if random.random() < 0.35:
        return ".txt", damaged(random, random.choice(_TEXTS)) if random.random() < 0.7 else random.choice(_TEXTS)
    return _description(random, random.choice(_LABELS))


def _description(random: Random, seed: Any, suffixes: Sequence[str] = (".json", ".yaml", ".yml")) -> Case:
    suffix = random.choice(suffixes)
    if suffix in (".yaml", ".yml") and random.random() < 0.2:
        text = random.choice(_YAML)
        return suffix, damaged(random, text.encode()) if random.random() < 0.3 else text.encode()
    data = json.loads(json.dumps(seed))
    for _ in range(random.choice((1, 1, 2, 3))):
        data = _spoilt(random, data)
    written = json.dumps(data, ensure_ascii=random.random() < 0.8).encode("utf-8", "surrogatepass")
    return suffix, damaged(random, written) if random.random() < 0.3 else written


def _spoilt(random: Random, data: Any) -> Any:
    """The data with one value, key or element replaced, somewhere."""
    if isinstance(data, dict) and data and random.random() < 0.9:
        key = random.choice(list(data))
        if random.random() < 0.15:
            data[random.choice(("", "names", "-1", "99999999999", "\ud800", "do_pad", "mean", "id2label"))] = data.pop(
                key
            )
        else:
            data[key] = _spoilt(random, data[key])
        return data
    if isinstance(data, list) and data and random.random() < 0.6:
        at = random.randrange(len(data))
        data[at] = _spoilt(random, data[at])
        return data
    return copy.deepcopy(random.choice(_ODD))
