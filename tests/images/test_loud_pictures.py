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

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, build
from helpers.tiny_models import tiny
from onnx_xcam import Explainer
from onnx_xcam.cli.app import app
from onnx_xcam.errors import ImageError, PreprocessError, XcamWarning
from onnx_xcam.images.read import read_image, read_mask, read_picture

RAMP = np.arange(48).reshape(6, 8)


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


FEW, WHITE = RAMP * 85, "but 65535 is taken for white"
DEEP = {
    "12 of 16 bits": (tiff(FEW.astype(np.uint16)), f"uint16 values go from 0 to 3995, {WHITE}"),
    "float": (
        tiff((FEW - 1000.0).astype(np.float32)),
        "float32 values go from -1000 to 2995: those below 0 become black",
    ),
    "bright float": (tiff(FEW.astype(np.float32)), "float32 values go from 0 to 3995: they are divided by 3995"),
    "signed": (tiff((FEW - 900).astype(np.int16)), "int16 values go from -900 to 3095: those below 0 become black"),
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


@pytest.mark.parametrize(("content", "said"), DEEP.values(), ids=DEEP)
def test_what_is_lost_is_told(content, said, tmp_path):
    (remark,) = read_picture(written(tmp_path, content)).remarks
    assert said in remark
    assert "ready tensor" in remark
    assert len(remark) < 220


@pytest.mark.parametrize("content", ORDINARY.values(), ids=ORDINARY)
def test_ordinary_pictures_are_not_remarked_on(content, tmp_path):
    assert read_picture(written(tmp_path, content)).remarks == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.float32])
def test_white_is_zero_in_every_depth(dtype, tmp_path):
    top = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    values = (RAMP / 47 * top).astype(dtype)
    black, white = (read_image(written(tmp_path, tiff(values, photometric))) for photometric in (1, 0))
    assert black[0, 0, 0] == 0
    np.testing.assert_allclose(white.astype(int), 255 - black.astype(int), atol=1)
    np.testing.assert_array_equal(read_mask(tmp_path / "p.tif"), white[..., 0] > 0)


BANDS = np.random.default_rng(0).integers(0, 255, (6, 8, 13)).astype(np.uint8)


@pytest.mark.parametrize("count", [2, 3, 4, 6, 13])
def test_bands_beside_the_colours_are_refused(count, tmp_path):
    """OpenCV takes the first band of those that no colour is said of, in silence."""
    path = written(tmp_path, tiff(BANDS[..., :count], 1, [0] * (count - 1)))
    with pytest.raises(ImageError, match=rf"p\.tif: has {count} bands, more than a photo's colours; save those"):
        read_image(path)


def test_a_fourth_band_that_may_be_alpha(tmp_path):
    (remark,) = read_picture(written(tmp_path, tiff(BANDS[..., :4], 2, [0]))).remarks
    assert remark == "its fourth band is not said to be alpha, but is taken for it and laid over white"
    assert read_picture(written(tmp_path, tiff(BANDS[..., :4], 2, [2]))).remarks == ()
    assert read_picture(written(tmp_path, tiff(BANDS[..., :3], 2))).remarks == ()


def pages(kind, count):
    frames = [Image.fromarray(BANDS[..., n : n + 3]) for n in range(count)]
    stream = io.BytesIO()
    frames[0].save(stream, kind, save_all=True, append_images=frames[1:])
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_the_first_of_several_pictures(kind, tmp_path):
    several, one = (read_picture(written(tmp_path, pages(kind, count), f"p.{kind.lower()}")) for count in (3, 1))
    assert several.remarks == ("it holds several pictures, of which the first is taken",)
    assert one.remarks == ()


@pytest.mark.parametrize("cut", range(0, 200, 7))
def test_damaged_tags_end_well(cut, tmp_path):
    """A directory that is cut off, or that points anywhere."""
    content = tiff((RAMP * 85).astype(np.uint16), 0, more=True)
    for damaged in (
        content[: max(8, len(content) - cut)],
        content[:4] + struct.pack("<I", len(content) - cut) + content[8:],
    ):
        try:
            read_picture(written(tmp_path, damaged))
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


# --- models of 16 bits, and of other channels ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uint16", "int16", "int32"])
def test_integers_of_16_bits_are_told_what_they_get(kind, tmp_path):
    text = f"image = Cast<to=1>(raw) {TRUNK} a = Relu(c2) {GAP}"
    model = build(text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, inputs=f"{kind}[N,3,12,12] raw", opset=17)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explainer = Explainer(model)  # nothing is assumed that may be wrong: the input takes pixels
    assert any("raw values 0..255: nothing states it, and the input takes whole numbers" in n for n in explainer.notes)
    deep = written(tmp_path, tiff((RAMP * 85).astype(np.uint16)))
    with pytest.warns(
        XcamWarning, match=rf"uint16 values, 0 to 3995, become 0 to 255 before the model's {kind} input"
    ) as caught:
        explainer.explain(deep)
    assert not any("taken for white" in str(one.message) for one in caught)
    own = np.repeat(RAMP.astype(kind)[None, :1, :1] + 4095, 3, 0)
    tensor = np.broadcast_to(own[None], (1, 3, 12, 12)).astype(kind)
    assert np.isfinite(explainer.explain(tensor).scores).all()  # the file's own values, as the remark says


@pytest.mark.parametrize("channels", [2, 4, 6, 13])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")
def test_other_channels_take_ready_tensors_and_say_so(channels, layout, tmp_path):
    shape = f"N,{channels},16,16" if layout == "NCHW" else f"N,16,16,{channels}"
    start = "" if layout == "NCHW" else "image = Transpose<perm=[0,3,1,2]>(raw) "
    name = "image" if layout == "NCHW" else "raw"
    body = start + TRUNK + "a = Relu(c2) " + GAP
    weights = {**TRUNK_WEIGHTS, "w1": (3, channels, 3, 3), **GAP_WEIGHTS}
    explainer = Explainer(build(body, weights, inputs=f"float[{shape}] {name}"))
    tensor = np.random.default_rng(1).random((2, channels, 16, 16)).astype(np.float32)
    given = tensor if layout == "NCHW" else tensor.transpose(0, 2, 3, 1)
    found = explainer.explain(given, [1, -1])
    plain = Explainer(build(TRUNK + "a = Relu(c2) " + GAP, weights, inputs=f"float[N,{channels},16,16] image"))
    np.testing.assert_allclose(found.scores, plain.explain(tensor, [1, -1]).scores, rtol=1e-5)
    assert found.heatmap(0, 0).shape == (16, 16)
    for photo in (
        written(tmp_path, png(np.dstack([RAMP * 5] * 4).astype(np.uint8)), "p.png"),
        np.zeros((9, 9, 3), np.uint8),
    ):
        with pytest.raises(
            PreprocessError, match=rf"takes pictures of {channels} channels, .* hand in a ready tensor \[N,"
        ) as caught:
            explainer.explain(photo)
        assert "1 or 3" not in str(caught.value)
