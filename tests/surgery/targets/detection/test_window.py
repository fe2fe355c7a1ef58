"""Detectors that pad or crop the picture inside have maps of the picture, not of what the first convolution reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers.models import images, session
from onnx_xcam import Explainer, check, instrument
from onnx_xcam.cams.numpy_arrays import NumpyArrays, window_matrix
from onnx_xcam.contract import Window
from onnx_xcam.errors import ModelError
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images.preprocess import Preprocess
from onnx_xcam.metadata import Metadata
from tools.common.folders import SAMPLE_MODELS
from tools.common.scenes import SIZE, TRIANGLE, Scene, random_shape

TINY = SAMPLE_MODELS / "tiny_detector.onnx"
PLAIN = Preprocess(scale=1 / 255)
HEIGHT, WIDTH = 75, 83
"""The sides of the picture that the model pads: no multiples of any of its strides."""


def padded(
    pads: tuple[int, int, int, int] = (0, 0, SIZE - HEIGHT, SIZE - WIDTH), *, batch: bool = False
) -> onnx.ModelProto:
    """The tiny detector for pictures `[3,H,W]`, which it pads (or crops) at the top, left, bottom and right."""
    model = onnx.load(TINY)
    del model.metadata_props[:]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_value, dims[3].dim_value = SIZE - pads[0] - pads[2], SIZE - pads[1] - pads[3]
    name = model.graph.input[0].name
    model.graph.input[0].name = "picture"
    amounts = np.array([0, pads[0], pads[1], 0, pads[2], pads[3]])
    if batch:
        amounts = np.concatenate([[0], amounts[:3], [0], amounts[3:]])
        nodes = [onnx.helper.make_node("Pad", ["picture", "pad_amounts"], [name])]
    else:
        del dims[0]
        nodes = [
            onnx.helper.make_node("Pad", ["picture", "pad_amounts"], ["padded"]),
            onnx.helper.make_node("Unsqueeze", ["padded", "pad_axis"], [name]),
        ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    for key, value in (("pad_amounts", amounts), ("pad_axis", np.array([0]))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.int64), key))
    return model


def metadata(model: onnx.ModelProto) -> Metadata:
    return Metadata.from_props({entry.key: entry.value for entry in model.metadata_props}, "the model")


def scene(x: int, y: int) -> np.ndarray:
    """A picture with one triangle of 15 pixels, its middle at x and y, `[3, HEIGHT, WIDTH]`."""
    behind = (120, 110, 100)
    shape = replace(random_shape(np.random.default_rng(3), (SIZE, SIZE), TRIANGLE, behind), x=x, y=y, radius=7)
    even = np.full((HEIGHT, WIDTH, 3), behind, np.uint8)
    return Scene(even, (shape,)).image_rgb.transpose(2, 0, 1).astype(np.float32) / 255


def peak(model: ort.InferenceSession, picture: np.ndarray) -> tuple[float, float]:
    """Where the best object's map is largest, x and y in pixels of the picture."""
    cam, status = model.run(["xcam_map", "xcam_status"], {"picture": picture})
    assert status[0, 0] == 0
    row, column = np.unravel_index(cam[0, 0].argmax(), cam[0, 0].shape)
    return (column + 0.5) / cam.shape[3] * WIDTH, (row + 0.5) / cam.shape[2] * HEIGHT


def test_the_part_is_stated_with_the_strides_of_the_layers():
    stated = metadata(instrument(padded()))
    assert stated.window == pytest.approx((0, 0, SIZE / HEIGHT, SIZE / WIDTH), abs=1e-6)
    plain = metadata(instrument(TINY))
    assert plain.window is None
    for member, of_plain in zip(stated.cut, plain.cut, strict=True):
        assert member.stride == pytest.approx(of_plain.stride, abs=1e-3)
    assert "covers" not in " ".join(note for note in stated.notes if note.startswith("Layer"))
    assert any(note.startswith("Picture: the model pads or crops it") for note in stated.notes)


def test_the_map_moves_with_the_object():
    model = session(instrument(padded(), emit=("map", "status")))
    for x, y in ((20, 20), (60, 20), (20, 52), (60, 52), (43, 37)):
        assert peak(model, scene(x, y)) == pytest.approx((x, y), abs=5)


@pytest.mark.parametrize("pads", [(0, 0, 21, 13), (10, 6, 11, 7), (21, 13, 0, 0), (-16, -8, -8, -16)])
@pytest.mark.parametrize("batch", [False, True])
def test_the_map_is_that_of_the_whole_input_cut_to_the_picture(pads, batch):
    emit = ("map", "status")
    model = session(instrument(padded(pads, batch=batch), emit=emit, relu=False))
    whole = session(instrument(TINY, emit=emit, relu=False))
    height, width = SIZE - pads[0] - pads[2], SIZE - pads[1] - pads[3]
    picture = images(1, SIZE)[:, :, :height, :width]
    picture = picture if picture.shape[2:] == (height, width) else np.resize(picture, (1, 3, height, width))
    inside = picture[:, :, max(0, -pads[0]) : height + min(0, pads[2]), max(0, -pads[1]) : width + min(0, pads[3])]
    fed = np.pad(inside, ((0, 0), (0, 0), (max(0, pads[0]), max(0, pads[2])), (max(0, pads[1]), max(0, pads[3]))))
    (cam,) = model.run(["xcam_map"], {"picture": picture if batch else picture[0], "xcam_object": np.array([[100]])})
    (expected,) = whole.run(["xcam_map"], {"images": fed, "xcam_object": np.array([[100]])})
    assert cam.shape == expected.shape
    n = cam.shape[2]
    window = (-pads[0] / height, -pads[1] / width, 1 + pads[2] / height, 1 + pads[3] / width)
    for row in range(n):
        for column in range(n):
            at = [((i + 0.5) / n - a) / (b - a) * n - 0.5 for i, a, b in ((row, *window[::2]), (column, *window[1::2]))]
            outside = any(not -0.5 <= one <= n - 0.5 for one in at)
            value = 0.0 if outside else _between(expected[0, 0], *(min(max(one, 0), n - 1) for one in at))
            assert cam[0, 0, row, column] == pytest.approx(value, abs=2e-5 * float(np.abs(expected).max()))


def _between(values: np.ndarray, y: float, x: float) -> float:
    """The value between four neighbours."""
    i, j = min(int(y), len(values) - 2), min(int(x), values.shape[1] - 2)
    upper, lower = (row[j] + (x - j) * (row[j + 1] - row[j]) for row in values[i : i + 2])
    return float(upper + (y - i) * (lower - upper))


def test_recorded_maps_are_those_that_the_model_emits():
    photo = (scene(30, 40).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    model = padded()
    emitted = Explainer(model, preprocess=PLAIN).explain(photo)
    recorded = Explainer(model, preprocess=PLAIN, method=["local-xgrad-cam", "grad-cam"]).explain(photo)
    np.testing.assert_allclose(recorded.maps[0], emitted.maps[0], rtol=1e-4, atol=1e-6)


def test_the_checks_of_the_maps_know_the_part():
    assert check(padded()).passed


def test_what_a_convolution_takes_off_again_is_no_part():
    model = padded((3, 3, 3, 3))
    assert metadata(instrument(model)).window is not None
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    pads = next(one for one in conv.attribute if one.name == "pads")
    kernel = next(tuple(one.dims) for one in model.graph.initializer if one.name == conv.input[1])[2:]
    amount = pads.ints[0]
    assert list(pads.ints) == [amount] * 4
    assert kernel == (2 * amount + 1,) * 2
    own = onnx.load(TINY)
    first = next(node for node in own.graph.node if node.op_type == "Conv")
    next(one for one in first.attribute if one.name == "pads").ints[:] = [0] * 4
    sides = np.array([0, 0, amount, amount] * 2)
    own.graph.initializer.append(onnx.numpy_helper.from_array(sides, "own_pads"))
    own.graph.node.insert(0, onnx.helper.make_node("Pad", [first.input[0], "own_pads"], ["own_padded"]))
    first.input[0] = "own_padded"
    assert metadata(instrument(own)).window is None


def test_the_matrix_of_a_window():
    np.testing.assert_array_equal(window_matrix(4, 0, 1), np.eye(4))
    np.testing.assert_allclose(window_matrix(2, 0, 2), [[1, 0], [0.75, 0.25]])
    np.testing.assert_array_equal(window_matrix(4, 0.25, 0.75)[[0, 3]], np.zeros((2, 4)))
    values = np.arange(8.0).reshape(1, 1, 2, 4)
    np.testing.assert_array_equal(NumpyArrays().windowed(values, Window(0, 0, 1, 1)), values)


@pytest.mark.parametrize("window", ["[0,0,1]", "[0,0,0,1]", '[0,0,"1",1]', "[1,0,0,1]", "3"])
def test_a_part_of_another_form_is_told(window):
    with pytest.raises(ModelError, match="window"):
        Metadata.from_props({"onnx_xcam": f'{{"window": {window}}}'}, "the model")


def test_a_recorder_of_one_level_knows_the_part():
    assert Recorder(padded(), methods=["grad-cam"]).model.loaded.metadata.window is not None


def test_padding_that_only_a_run_tells_is_said():
    model = padded()
    del model.graph.initializer[[one.name for one in model.graph.initializer].index("pad_amounts")]
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[1].dim_param, dims[2].dim_param = "H", "W"
    nodes = [
        onnx.helper.make_node("Shape", ["picture"], ["sides"]),
        onnx.helper.make_node("Sub", ["all_sides", "sides"], ["missing"]),
        onnx.helper.make_node("Concat", ["nothing", "missing"], ["pad_amounts"], axis=0),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    for name, values in (("all_sides", [3, SIZE, SIZE]), ("nothing", [0, 0, 0])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values), name))
    said = "Picture: the model pads it by as much as a run tells"
    assert any(note.startswith(said) for note in metadata(instrument(model)).notes)
    assert not any(said in note for one in (TINY, padded()) for note in metadata(instrument(one)).notes)
