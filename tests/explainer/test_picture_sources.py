"""Every way to hand in a picture gives the same explanation, at every place that takes pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, build
from helpers.pictures import npy, png
from helpers.tiff_files import Tiff
from helpers.tiny_models import tiny
from onnx_xcam import Explainer
from onnx_xcam.errors import ImageError, InputError, PreprocessError
from onnx_xcam.evaluation.compare import compare
from onnx_xcam.evaluation.evaluator import evaluate
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images.sources import Named

RGB = np.random.default_rng(3).integers(0, 256, (31, 23, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "p.png").write_bytes(png(RGB))
    (tmp_path / "p.npy").write_bytes(npy(RGB))
    return tmp_path


SOURCES = {
    "text": lambda folder: str(folder / "p.png"),
    "path": lambda folder: folder / "p.png",
    ".npy": lambda folder: folder / "p.npy",
    "bytes": lambda folder: (folder / "p.png").read_bytes(),
    "stream": lambda folder: io.BytesIO((folder / "p.png").read_bytes()),
    "pillow": lambda folder: Image.open(folder / "p.png").convert("RGB"),
    "array": lambda folder: RGB,
    "floats": lambda folder: RGB.astype(np.float64) / 255,
    "named": lambda folder: Named(RGB, "upload"),
}
PLACES = {
    "explain": lambda explainer, recorder, source: explainer.explain(source).scores,
    "explain a list": lambda explainer, recorder, source: explainer.explain([source]).scores,
    "prepare": lambda explainer, recorder, source: explainer.explain(explainer.prepare(source)).scores,
    "stream": lambda explainer, recorder, source: next(explainer.stream([source])).unwrap().scores,
    "record": lambda explainer, recorder, source: recorder.record(recorder.prepare(source), None).scores[None],
    "recorder's stream": lambda explainer, recorder, source: next(
        recorder.stream([source], None, each=lambda one: one.recording.scores[None])
    ),
    "evaluate": lambda explainer, recorder, source: np.array(
        [next(evaluate(tiny(), [source], preprocess="unit", metrics=["drop"]))["scores"]]
    ),
    "compare": lambda explainer, recorder, source: np.array(
        [[cell.score for cell in compare(recorder, recorder.prepare(source), None).cells[:1]]]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_every_source_at_every_place(place, folder):
    explainer, recorder = (
        Explainer(tiny(), preprocess="unit"),
        Recorder(tiny(), methods=["xgrad-cam"], preprocess="unit"),
    )
    wanted = explainer.explain(RGB).scores
    for name, source in SOURCES.items():
        scores = PLACES[place](explainer, recorder, source(folder))
        np.testing.assert_allclose(scores, wanted, rtol=2e-2 if name == "floats" else 1e-5, err_msg=name)


def test_the_order_of_colours(folder):
    explainer, recorder = (
        Explainer(tiny(), preprocess="unit"),
        Recorder(tiny(), methods=["xgrad-cam"], preprocess="unit"),
    )
    bgr, wanted = RGB[..., ::-1], explainer.explain(RGB).scores
    found = {
        "explain": explainer.explain(bgr, channels="BGR").scores,
        "explain a list": explainer.explain([bgr], channels="BGR").scores,
        "stream": next(explainer.stream([bgr], channels="BGR")).unwrap().scores,
        "prepare": explainer.explain(explainer.prepare(bgr, channels="BGR")).scores,
        "record": recorder.record(recorder.prepare(bgr, channels="BGR"), None).scores[None],
        "recorder's stream": next(
            recorder.stream([bgr], None, each=lambda one: one.recording.scores[None], channels="BGR")
        ),
        "evaluate": np.array(
            [next(evaluate(tiny(), [bgr], preprocess="unit", metrics=["drop"], channels="BGR"))["scores"]]
        ),
    }
    for place, scores in found.items():
        np.testing.assert_allclose(scores, wanted, rtol=1e-5, err_msg=place)
    assert abs(explainer.explain(bgr).scores - wanted).max() > 1e-3
    with pytest.raises(ImageError, match=r"p\.png: channels is of arrays"):
        explainer.explain(folder / "p.png", channels="BGR")
    with pytest.raises(ImageError, match="image 1: channels is of arrays"):
        explainer.explain([bgr, png(RGB)], channels="BGR")


def test_a_ready_tensor_in_a_file(tmp_path):
    explainer = Explainer(tiny(), preprocess="unit")
    tensor = explainer.prepare(RGB).item[None]
    path = tmp_path / "t.npy"
    for array in (tensor, tensor.astype(np.float64)):
        path.write_bytes(npy(array))
        for source in (path, str(path), path.read_bytes()):
            found = explainer.explain(source)
            np.testing.assert_allclose(found.scores, explainer.explain(tensor).scores, rtol=1e-6)
            assert found.images[0].shape == (*tensor.shape[2:], 3)  # its own values are what a map is drawn on
    path.write_bytes(npy(np.concatenate([tensor, tensor])))
    assert len(explainer.explain(path).scores) == 2
    (found,) = explainer.stream([path])
    assert isinstance(found.error, InputError)
    assert "t.npy: holds a batch of 2 pictures" in str(found.error)
    path.write_bytes(npy(tensor[0]))
    with pytest.raises(ImageError, match=r"t\.npy: .* move the channels last.* add the axis of images: x\[None\]"):
        explainer.explain(path)
    path.write_bytes(npy(tensor[None]))
    with pytest.raises(ImageError, match=r"t\.npy: a picture array must be \[H,W,3\]"):
        explainer.explain(path)
    path.write_bytes(npy(tensor.astype(np.int64)))
    with pytest.raises(InputError, match="holds int64"):
        explainer.explain(path)


def test_an_open_file_or_an_image_is_no_stream(folder):
    explainer = Explainer(tiny(), preprocess="unit")
    for single in (io.BytesIO(png(RGB)), Image.fromarray(RGB), png(RGB), folder / "p.png", Named(RGB, "a")):
        with pytest.raises(ImageError, match="must be a list or a generator of pictures"):
            explainer.stream(single)
    assert len(list(explainer.stream(np.stack([RGB, RGB])))) == 2


# --- a second picture ------------------------------------------------------------------------------------------------


def pair():
    """A model of two pictures of 16 x 16."""
    text = f"image = Sub(left, right) {TRUNK} a = Relu(c2) {GAP}"
    return build(text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, inputs="float[N,3,16,16] left, float[N,3,16,16] right")


@pytest.mark.parametrize("name", SOURCES)
def test_a_second_picture_from_every_source(name, folder):
    other = 255 - RGB
    ready = Explainer(pair(), preprocess="unit", inputs={"right": other}).inputs["right"]
    assert ready.shape == (1, 3, 16, 16)
    (folder / "p.png").write_bytes(png(other))
    (folder / "p.npy").write_bytes(npy(other))
    given = {"array": other, "floats": other / 255, "named": Named(other, "upload")}.get(name)
    given = SOURCES[name](folder) if given is None else given
    found = Explainer(pair(), preprocess="unit", inputs={"right": given})
    np.testing.assert_allclose(
        found.inputs["right"], ready, atol=1 / 255 if name == "floats" else 1e-6
    )  # not rounded twice
    (note,) = [note for note in found.notes if note.startswith("Input: 'right' is fed")]
    assert "16x16, stretched, linear, RGB" in note


def test_values_that_fit_an_input_are_no_picture(tmp_path):
    value = np.random.default_rng(5).random((3, 16, 16), np.float32)
    for array in (value, value[None]):
        (tmp_path / "v.npy").write_bytes(npy(array))
        for given in (array, tmp_path / "v.npy"):
            found = Explainer(pair(), preprocess="unit", inputs={"right": given})
            np.testing.assert_array_equal(found.inputs["right"], value[None])
    with pytest.raises(InputError, match="has the shape"):
        Explainer(pair(), preprocess="unit", inputs={"right": value[None, :, :9]})
    (tmp_path / "v.npy").write_bytes(npy(value)[:200])
    with pytest.raises(InputError, match=r"cannot be read as a \.npy file"):
        Explainer(pair(), preprocess="unit", inputs={"right": tmp_path / "v.npy"})
    for given in (np.zeros((5, 5, 7), np.uint8), np.zeros((5, 5, 2), np.float32)):
        with pytest.raises(
            PreprocessError, match=r"the given picture has \d channels, but the model's input 'right' takes 3"
        ):
            Explainer(pair(), preprocess="unit", inputs={"right": given})


def test_a_further_input_may_take_bands(tmp_path):
    text = f"bands = ReduceMean(right) image = Add(left, bands) {TRUNK} a = Relu(c2) {GAP}"
    model = build(text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, inputs="float[N,3,16,16] left, float[1,6,12,12] right")
    pixels = np.random.default_rng(4).integers(0, 256, (12, 12, 6), np.uint8)
    (tmp_path / "b.tif").write_bytes(Tiff().write(pixels))
    found = Explainer(model, preprocess="unit", inputs={"right": tmp_path / "b.tif"})
    np.testing.assert_allclose(found.inputs["right"], pixels.transpose(2, 0, 1)[None] / np.float32(255), rtol=1e-6)
    (tmp_path / "p.png").write_bytes(png(RGB))
    with pytest.raises(PreprocessError, match=r"p\.png' has 3 channels \(RGB\), but .* 'right' takes 6"):
        Explainer(model, preprocess="unit", inputs={"right": tmp_path / "p.png"})
    for array in (np.zeros((9, 9, 6), np.float32), np.zeros((6, 9, 9), np.float32)):  # perhaps a feature map
        with pytest.raises(InputError, match="'right'"):
            Explainer(model, preprocess="unit", inputs={"right": array})
