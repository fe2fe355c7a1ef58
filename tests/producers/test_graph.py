"""What a model's graph proves is followed where nothing else says it, and contradicts what is said wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from helpers.producers import photos
from onnx_xcam import Explainer, inspect, instrument
from onnx_xcam.errors import XcamWarning
from onnx_xcam.producers.graph import graph_statements

CAFFE = np.float32([103.939, 116.779, 123.68])


def save(path: Path, steps: str, dtype: int = TensorProto.FLOAT, **constants: np.ndarray) -> Path:
    """A classifier of [N,16,16,3] with nodes from the picture to "ready" before it."""
    random = np.random.default_rng(3)
    arrays = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "f": random.normal(0, 0.3, (8, 5)).astype(np.float32),
        **{name: np.asarray(value) for name, value in constants.items()},
    }
    text = (
        f"{steps} first = Transpose<perm = [0, 3, 1, 2]>(ready) conv = Conv(first, w) relu = Relu(conv) "
        "pooled = GlobalAveragePool(relu) flat = Flatten(pooled) logits = MatMul(flat, f)"
    )
    kind = onnx.helper.tensor_dtype_to_string(dtype).removeprefix("TensorProto.").lower()
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g ({kind}[N,16,16,3] image) => (float[N,5] logits) {{ {text} }}'
    )
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in arrays.items())
    onnx.save(model, path)
    return path


SCALED = "a = Mul(image, k) ready = Sub(a, one)"
ONES = {"k": np.float32(1 / 127.5), "one": np.float32(1)}


def open_quietly(model: object, **options: object) -> Explainer:
    with pytest.warns(XcamWarning):  # on the crop, which nothing states
        return Explainer(model, **options)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 255), [0, 51, 255]),
        ((0, 1), [0, 0.2, 1]),
        ((-1, 1), [-1, -0.6, 1]),
        ((-128, 127), [-128, -77, 127]),
    ],
)
def test_a_range_is_said_by_scale_mean_and_std(values, expected):
    (statement,) = graph_statements(values)
    scale, mean, std = (statement.settings[name] for name in ("scale", "mean", "std"))
    np.testing.assert_allclose((np.array([0, 51, 255]) * scale - mean) / std, expected, atol=1e-12)


def test_raw_values_have_no_negative_zero():
    (statement,) = graph_statements((0.0, 255.0))
    assert not np.signbit(statement.settings["mean"]).any()


def test_nothing_proved_is_no_statement():
    assert graph_statements(None) == ()


def test_the_values_that_the_graph_takes_are_used(tmp_path):
    explainer = open_quietly(save(tmp_path / "m.onnx", SCALED, **ONES))
    assert explainer.preprocess.is_raw
    photo = np.full((40, 40, 3), (0, 100, 255), np.uint8)
    np.testing.assert_array_equal(explainer.prepare(photo).item[8, 8], [0, 100, 255])


def test_the_order_that_the_means_show_is_used(tmp_path):
    explainer = open_quietly(save(tmp_path / "m.onnx", "ready = Sub(image, m)", m=CAFFE))
    assert explainer.preprocess.is_raw
    assert explainer.preprocess.channels == "BGR"


def test_an_instrumented_model_is_told_the_same(tmp_path):
    path = save(tmp_path / "m.onnx", SCALED, **ONES)
    plain, again = open_quietly(path), open_quietly(instrument(path))
    assert again.preprocess == plain.preprocess
    assert again.preprocess.is_raw


@pytest.mark.parametrize("made", [onnx.load, instrument], ids=["plain", "instrumented"])
def test_inspect_names_the_graph_as_the_source(tmp_path, made):
    report = inspect(made(save(tmp_path / "m.onnx", "ready = Sub(image, m)", m=CAFFE))).pictures
    kinds = {part.name: part.kind for part in report.parts}
    assert (kinds["values"], kinds["channel order"], kinds["resize rule"]) == ("graph", "graph", "assumed")


def test_integers_of_a_sign_are_pixels_less_128(tmp_path):
    steps = "ready = DequantizeLinear(image, s, z)"
    explainer = open_quietly(save(tmp_path / "m.onnx", steps, TensorProto.INT8, s=np.float32(1 / 128), z=np.int8(0)))
    photo = photos()[0][:200, :200]
    picture = explainer.prepare(np.ascontiguousarray(photo)).item
    assert picture.dtype == np.int8
    raw = open_quietly(save(tmp_path / "u.onnx", SCALED, **ONES)).prepare(np.ascontiguousarray(photo)).item
    np.testing.assert_allclose(picture, raw - 128, atol=0.51)


def test_a_second_picture_gets_the_values_that_its_own_input_takes(tmp_path):
    """Two inputs of one model, and only the second is normalised in the graph."""
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,3,16,16] left, float[N,3,16,16] right) => (float[N,5] y) {'
        "r = Div(right, k) a = Conv(left, w) b = Conv(r, w) c = Add(a, b) d = Relu(c) p = GlobalAveragePool(d) "
        "f = Flatten(p) y = MatMul(f, v) }"
    )
    random = np.random.default_rng(5)
    for name, value in {"w": random.normal(size=(8, 3, 3, 3)), "v": random.normal(size=(8, 5)), "k": 255.0}.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), name))
    colour = np.full((16, 16, 3), (0, 100, 255), np.uint8)
    explainer = open_quietly(model, inputs={"right": colour})
    np.testing.assert_array_equal(explainer.inputs["right"][0, :, 8, 8], [0, 100, 255])
    assert not explainer.preprocess.is_raw


def test_a_file_that_contradicts_the_graph_is_followed_and_reported(tmp_path):
    path = save(tmp_path / "m.onnx", SCALED, **ONES)
    (tmp_path / "m.preprocess.json").write_text(json.dumps({"preset": "imagenet"}))
    with pytest.warns(XcamWarning, match="the graph itself says"):
        explainer = Explainer(path)
    assert explainer.preprocess.scale == pytest.approx(1 / 255)


def test_a_file_that_says_what_the_graph_does_is_no_contradiction(tmp_path, recwarn):
    path = save(tmp_path / "m.onnx", SCALED, **ONES)
    (tmp_path / "m.preprocess.json").write_text(json.dumps({"preset": "raw"}))
    Explainer(path)
    assert not [str(one.message) for one in recwarn]


def test_names_in_the_graph_are_the_labels(tmp_path):
    model = onnx.load(save(tmp_path / "m.onnx", SCALED, **ONES))
    names = np.array(["ant", "bee", "cat", "dog", "élan"], dtype=object)
    model.graph.initializer.append(onnx.numpy_helper.from_array(names, "names"))
    model.graph.node.extend(
        [
            helper.make_node("ArgMax", ["logits"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["names", "best"], ["label"]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, ["N"]))
    explainer, again = open_quietly(model), open_quietly(instrument(model))
    assert explainer.labels == again.labels == tuple(names)
    assert any("from the graph itself" in note for note in explainer.notes if note.startswith("Labels"))
    assert explainer.model.choose(["élan"]).classes == [[4]]
