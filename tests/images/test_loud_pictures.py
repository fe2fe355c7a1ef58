"""Pictures whose values do not become 0 to 255 as anyone would expect: told, once, wherever photos are read."""

from __future__ import annotations

import io
import struct
import warnings

import cv2
import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

from helpers.tiny_models import tiny
from onnx_xcam import Explainer
from onnx_xcam.cli.app import app
from onnx_xcam.errors import ImageError, XcamWarning
from onnx_xcam.images import InputSpec, Preprocess, preprocess_image, read_mask, read_photo
from onnx_xcam.images.tiff import count_pages
from onnx_xcam.images.values import remarks_for

RAMP = np.arange(48).reshape(6, 8)
COLOURS = InputSpec("image", np.dtype(np.float32), "NCHW", 3, 224, 224)


def tiff(array, photometric=1, extra=(), more=False):
    """An uncompressed TIFF file of one strip; `more` says that another picture follows."""
    height, width, samples = (*array.shape, 1)[:3]
    kind = {"u": 1, "i": 2, "f": 3}[array.dtype.kind]
    data = array.astype(array.dtype.newbyteorder("<")).tobytes()
    fields = {256: [width], 257: [height], 258: [array.dtype.itemsize * 8] * samples, 259: [1], 262: [photometric]}
    fields |= {273: [8], 277: [samples], 278: [height], 279: [len(data)], 338: list(extra), 339: [kind] * samples}
    tags = [(tag, values) for tag, values in sorted(fields.items()) if values]
    start = 8 + len(data) + len(data) % 2
    behind = start + 2 + 12 * len(tags) + 4
    entries, blob = b"", b""
    for tag, values in tags:
        packed = struct.pack(f"<{len(values)}I", *values)
        place = packed if len(packed) == 4 else struct.pack("<I", behind + len(blob))
        blob += b"" if len(packed) == 4 else packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + place
    head = (b"II*\0" + struct.pack("<I", start) + data).ljust(start, b"\0")
    return head + struct.pack("<H", len(tags)) + entries + struct.pack("<I", start if more else 0) + blob


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def written(folder, content, name="p.tif"):
    (folder / name).write_bytes(content)
    return folder / name


FEW, WHITE = RAMP * 85, "but 65535 is taken for white, since nothing states it, so hardly any contrast is left"
DEEP = {
    "12 of 16 bits": (tiff(FEW.astype(np.uint16)), f"uint16 values go from 0 to 3995, {WHITE}"),
    "float": (
        tiff((FEW - 1000.0).astype(np.float32)),
        "float32 values go from -1000 to 2995, but 1 is taken for white",
    ),
    "bright float": (tiff(FEW.astype(np.float32)), "float32 values go from 0 to 3995, but 1 is taken for white"),
    "signed": (tiff((FEW - 900).astype(np.int16)), "int16 values go from -900 to 3095, but 32767 is taken for white"),
    "deep PNG": (png((RAMP * 20).astype(np.uint16)), f"uint16 values go from 0 to 940, {WHITE}"),
    "deep colours": (
        png(np.dstack([RAMP * 20] * 3 + [RAMP * 0 + 65535]).astype(np.uint16)),
        f"go from 0 to 940, {WHITE}",
    ),
}
ORDINARY = {
    "8 bits": tiff((RAMP * 5).astype(np.uint8)),
    "dark 8 bits": tiff((RAMP // 8).astype(np.uint8)),
    "16 bits": tiff((RAMP * 1390).astype(np.uint16)),
    "black 16 bits": tiff((RAMP * 0).astype(np.uint16)),
    "float 0..1": tiff((RAMP / 47).astype(np.float32)),
    "RGB": png(np.dstack([RAMP * 5] * 3).astype(np.uint8)),
    "RGBA": png(np.dstack([RAMP * 5] * 4).astype(np.uint8)),
}


def remarks(path, spec=COLOURS, **settings):
    return remarks_for(read_photo(path), Preprocess(**settings), spec)


@pytest.mark.parametrize(("content", "said"), DEEP.values(), ids=DEEP)
def test_values_that_nothing_explains_are_told(content, said, tmp_path):
    path = written(tmp_path, content)
    (remark,) = remarks(path)
    assert said in remark
    assert "state white (the value that stands for pixel 255) or window: [low, high]" in remark
    assert len(remark) < 250
    assert remarks(path, white=4095) == remarks(path, window=(0, 4095)) == ()  # what is stated is not doubted


@pytest.mark.parametrize("content", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_pictures_are_not_remarked_on(content, tmp_path):
    assert remarks(written(tmp_path, content)) == ()


def test_an_input_of_16_bits_that_gets_the_files_own_values_is_not_warned(tmp_path):
    path, deep = written(tmp_path, tiff(FEW.astype(np.uint16))), InputSpec("x", np.dtype(np.uint16), "NCHW", 1, 6, 8)
    assert remarks(path, deep, channels="GRAY", scale=257) == ()
    (lost,) = remarks(path, deep, channels="GRAY")  # 0 to 15 are left
    assert WHITE in lost


def test_values_that_are_not_finite_are_counted(tmp_path):
    values = (RAMP / 47).astype(np.float32)
    values[0, :3] = np.nan, np.inf, -np.inf
    path = written(tmp_path, tiff(values))
    assert remarks(path) == ("3 of its values are not finite, and count as 0",)
    item, _ = preprocess_image(read_photo(path), Preprocess(), InputSpec("x", np.dtype("f4"), "NCHW", 3, 6, 8))
    assert not item[:, 0, :3].any()
    assert np.isfinite(item).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_white_is_zero_in_every_depth(dtype, tmp_path):
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    values = (RAMP / 47 * top).astype(dtype)
    black, white = (read_photo(written(tmp_path, tiff(values, photometric))).pixels for photometric in (1, 0))
    assert black[0, 0, 0] == 0
    np.testing.assert_allclose(white.astype(float), top - black.astype(float), rtol=1e-6)
    np.testing.assert_array_equal(read_mask(tmp_path / "p.tif"), white[..., 0] > 0)


BANDS = np.random.default_rng(0).integers(0, 255, (6, 8, 13)).astype(np.uint8)


def test_a_fourth_band_that_may_be_alpha(tmp_path):
    guessed, said, none = (tiff(BANDS[..., :count], 2, extra) for count, extra in ((4, [0]), (4, [2]), (3, [])))
    path = written(tmp_path, guessed)
    assert remarks(path) == ("its fourth band is not said to be alpha, but is taken for it and laid over white",)
    assert remarks(path, InputSpec("x", np.dtype("f4"), "NCHW", 4)) == ()  # the model gets it
    assert remarks(path, bands=(0, 1, 3)) == ()
    assert remarks(written(tmp_path, said)) == remarks(written(tmp_path, none)) == ()


def pages(kind, count):
    frames = [Image.fromarray(BANDS[..., n : n + 3]) for n in range(count)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_the_first_of_several_pictures(kind, tmp_path):
    several, one = (read_photo(written(tmp_path, pages(kind, count), f"p.{kind.lower()}")) for count in (3, 1))
    count = "several" if kind == "WEBP" else 3  # which states no number
    assert several.remarks == (f"it holds {count} pictures, of which the first is taken",)
    assert one.remarks == ()


@pytest.mark.parametrize("big", [False, True])
def test_pages_that_lead_back_to_the_first_are_counted_once(big):
    head, entries, word = (b"II+\0\x08\0\0\0", struct.pack("<Q", 0), "<Q") if big else (b"II*\0", b"\0\0", "<I")
    first = len(head) + struct.calcsize(word)
    second = first + len(entries) + struct.calcsize(word)
    loop = head + struct.pack(word, first) + entries + struct.pack(word, second) + entries + struct.pack(word, first)
    assert count_pages(loop, 100) == 2
    assert count_pages(loop[: second + 1], 100) == 1, "cut off within the second"


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_damaged_tags_end_well(cut, tmp_path):
    """A directory that is cut off, or that points anywhere."""
    content = tiff((RAMP * 85).astype(np.uint16), 0, more=True)
    for damaged in (
        content[: max(8, len(content) - cut)],
        content[:4] + struct.pack("<I", len(content) - cut) + content[8:],
    ):
        try:
            read_photo(written(tmp_path, damaged))
        except ImageError as error:
            assert "\n" not in str(error)


# --- where it is told ------------------------------------------------------------------------------------------------


@pytest.fixture
def deep(tmp_path):
    for n in range(3):
        written(tmp_path, tiff((RAMP * (80 + n)).astype(np.uint16)), f"p{n}.tif")
    onnx.save(tiny(), tmp_path / "m.onnx")
    return tmp_path


def told(text):
    return [line for line in text.splitlines() if "taken for white" in line]


def test_explain_and_evaluate_tell_it_once(deep):
    photos = [str(deep / f"p{n}.tif") for n in range(3)]
    for command in (["explain"], ["explain", "--quiet"], ["evaluate", "--metrics", "axioms"]):
        for given, more in ((photos[:1], ""), (photos, r" (so with 2 more).")):
            options = ["-o", str(deep / command[0]), "--preprocess", "unit"]
            result = CliRunner().invoke(app, [*command, str(deep / "m.onnx"), *given, *options])
            assert result.exit_code == 0, result.output
            (line,) = told(result.output)
            assert line.startswith("warning: ")
            assert line.endswith(more)
            assert "uint16 values go from 0 to 3" in line


def test_compare_tells_it_once(deep):
    result = CliRunner().invoke(
        app, ["compare", str(deep / "m.onnx"), str(deep / "p0.tif"), "-o", str(deep / "c.png"), "--preprocess", "unit"]
    )
    assert result.exit_code == 0, result.output
    assert len(told(result.output)) == 1


def test_python_is_warned(deep):
    explainer = Explainer(tiny(), preprocess="unit")
    with pytest.warns(XcamWarning, match=r"p0\.tif: its uint16 values go from 0 to 3760, but 65535 is taken for white"):
        explanation = explainer.explain(deep / "p0.tif")
    assert len(told("\n".join(explanation.warnings()))) == 1
    assert not told("\n".join(explanation.map_warnings()))
    again = Explainer(tiny(), preprocess="unit")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = list(again.stream([deep / f"p{n}.tif" for n in range(3)]))
    assert len(told("\n".join(str(one.message) for one in caught))) == 1
    assert all(told("\n".join(one.unwrap().warnings())) for one in found)
