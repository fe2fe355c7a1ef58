"""Inputs that play no part in the score: fed zeros and told, whatever their type, wherever a model is run."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import helper
from typer.testing import CliRunner

from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, C, build, cnn, images
from onnx_xcam import Explainer, check, inspect, instrument
from onnx_xcam.benchmark import model as benchmark
from onnx_xcam.cli.app import app
from onnx_xcam.errors import InputError
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.images.write import write_image

pytestmark = pytest.mark.filterwarnings("ignore::onnx_xcam.errors.XcamWarning")

NET = TRUNK + "a = Relu(c2) " + GAP
NOTE = "Input: 'u' plays no part in the score; it is fed zeros."


def with_inputs(inputs="float[N,3,12,12] image", text="", outputs=f"float[N,{C}] logits", **more):
    return build(NET + text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, inputs=inputs, outputs=outputs, **more)


def with_input(kind):
    """A model with one more input of a type, which no node reads."""
    model = with_inputs()
    model.graph.input.append(helper.make_value_info("u", kind))
    return model


def tensor(kind, shape):
    return helper.make_tensor_type_proto(kind, shape)


FLOAT = onnx.TensorProto.FLOAT
TYPES = {
    "constants of Keras": tensor(FLOAT, [1, 1, 1, 3]),
    "symbols": tensor(FLOAT, ["N", "anything", None]),
    "as many as images": tensor(FLOAT, ["N", 4]),
    "number": tensor(FLOAT, []),
    "a picture": tensor(FLOAT, ["N", 3, 12, 12]),
    "text": tensor(onnx.TensorProto.STRING, ["N", 2]),
    "flag": tensor(onnx.TensorProto.BOOL, []),
    "half": tensor(onnx.TensorProto.FLOAT16, [2]),
    "bfloat16": tensor(onnx.TensorProto.BFLOAT16, [2]),
    "uint64": tensor(onnx.TensorProto.UINT64, [2, 2]),
    "sequence": helper.make_sequence_type_proto(tensor(FLOAT, None)),
    "dictionary": helper.make_map_type_proto(onnx.TensorProto.INT64, tensor(FLOAT, [])),
    "optional": helper.make_optional_type_proto(tensor(FLOAT, [2])),
}


@pytest.mark.parametrize("kind", TYPES.values(), ids=TYPES)
def test_every_type_is_fed_and_told(kind, batch):
    model = with_input(kind)
    expected = Explainer(cnn("gap"), preprocess="unit").explain(batch, [1, -1])
    for given in (model, instrument(model), instrument(model, class_input="required")):
        explainer = Explainer(given, preprocess="unit")
        assert NOTE in explainer.notes
        found = explainer.explain(batch, [1, -1])
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.maps_of(0), expected.maps_of(0))
    assert NOTE in inspect(model).notes
    assert [value.name for value in instrument(model).graph.input] == ["image", "u", "xcam_class"]


def test_several_are_one_note():
    model = with_inputs("float[N,3,12,12] image, float[2] u, int64[3] v, float[N,3,12,12] other")
    assert inspect(model).notes[-1] == "Inputs: 'u', 'v' and 'other' play no part in the score; they are fed zeros."
    many = with_inputs("float[N,3,12,12] image, " + ", ".join(f"float u{n}" for n in range(8)))
    said = "Inputs: 'u0', 'u1', 'u2', 'u3', 'u4' and 3 others play no part in the score; they are fed zeros."
    assert said in Explainer(many, preprocess="unit").notes


@pytest.mark.parametrize(
    ("text", "outputs"),
    [
        ("other = Mul(u, u)", f"float[N,{C}] logits, float[N,3,12,12] other"),
        ("other = Identity(u)", f"float[N,{C}] logits, float[N,3,12,12] other"),
        ("dead = Mul(u, u)", f"float[N,{C}] logits"),
    ],
    ids=["another output", "an output itself", "dead nodes"],
)
def test_what_only_others_read(text, outputs, batch):
    """A second picture, which would make it unclear where the photo goes, too."""
    model = with_inputs("float[N,3,12,12] u, float[N,3,12,12] image", text, outputs)
    explainer = Explainer(model, preprocess="unit")
    assert NOTE in explainer.notes
    expected = Explainer(cnn("gap"), preprocess="unit").explain(batch, [1])
    np.testing.assert_array_equal(explainer.explain(batch, [1]).maps_of(0), expected.maps_of(0))
    assert check(model).passed
    assert check(model, batch).passed


BRANCHES = {
    "of the picture": """
      yes = Constant<value = bool {1}>()
      scaled = If (yes) <
        then_branch = taken () => (float[N,C] one) { one = Identity(logits) },
        else_branch = left () => (float[N,C] two) { two = Mul(logits, u) }
      >""",
    "of a factor": """
      yes = Constant<value = bool {1}>()
      factor = If (yes) <
        then_branch = taken () => (float one) { one = Constant<value_float = 1.0>() },
        else_branch = left () => (float two) { two = Identity(u) }
      >
      scaled = Mul(logits, factor)""",
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_a_branch_that_is_not_taken(kind, batch):
    model = with_inputs("float[N,3,12,12] image, float u", BRANCHES[kind], f"float[N,{C}] scaled")
    assert NOTE in inspect(model).notes
    explainer = Explainer(model, preprocess="unit")
    assert NOTE in explainer.notes
    expected = Explainer(cnn("gap"), preprocess="unit").explain(batch, [1])
    np.testing.assert_array_equal(explainer.explain(batch, [1]).scores, expected.scores)


def test_what_the_score_needs_is_still_asked_for():
    model = with_inputs("float[N,3,12,12] image, float u, float v", "y = Mul(logits, v)", f"float[N,{C}] y")
    with pytest.raises(InputError, match=r"needs the input 'v' \(float32 \[\]\) beside the picture"):
        Explainer(model, preprocess="unit")
    found = Explainer(model, preprocess="unit", inputs={"v": 2})
    assert {"Input: 'v' is fed 2.0 (float32 []).", NOTE} <= set(found.notes)
    shaped = "s = Shape(u)  n = Size(s)  v = Cast<to=1>(n)  y = Mul(logits, v)"
    with pytest.raises(InputError, match="needs the input 'u'"):  # its size counts
        Explainer(with_inputs("float[N,3,12,12] image, float[W] u", shaped, f"float[N,{C}] y"), preprocess="unit")


def test_a_value_may_still_be_given():
    model = with_input(tensor(FLOAT, [2]))
    assert "Input: 'u' is fed the given float32 [2]." in Explainer(model, preprocess="unit", inputs={"u": [1, 2]}).notes


def test_methods_of_many_runs(batch):
    model = with_input(TYPES["sequence"])
    recorder = Recorder(model, methods=["score-cam", "ablation-cam", "guided-xgrad-cam"], preprocess="unit")
    plain = Recorder(cnn("gap"), methods=["score-cam", "ablation-cam", "guided-xgrad-cam"], preprocess="unit")
    photo = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    ours, theirs = (one.record(one.prepare(photo), None) for one in (recorder, plain))
    for name in recorder.methods:
        np.testing.assert_array_equal(ours.explanation(name).maps_of(0), theirs.explanation(name).maps_of(0))


@pytest.mark.parametrize("kind", ["text", "sequence", "constants of Keras"])
def test_every_command(kind, tmp_path):
    onnx.save(with_input(TYPES[kind]), tmp_path / "m.onnx")
    write_image(tmp_path / "p.png", np.random.default_rng(0).integers(0, 255, (20, 20, 3)).astype(np.uint8))
    model, photo, options = str(tmp_path / "m.onnx"), str(tmp_path / "p.png"), ["--preprocess", "unit"]
    for command in (
        ["explain", model, photo, "-o", str(tmp_path / "out"), *options],
        ["evaluate", model, photo, "-o", str(tmp_path / "evaluated"), "--metrics", "axioms", *options],
        ["compare", model, photo, "-o", str(tmp_path / "c.png"), *options],
        ["check", model],
        ["check", model, photo, *options],
        ["inspect", model],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 0, result.output
    line = json.loads((tmp_path / "out" / "results.jsonl").read_text())
    assert line["error"] is None


def test_bench(tmp_path):
    onnx.save(with_input(TYPES["sequence"]), tmp_path / "m.onnx")
    report = benchmark.bench(tmp_path / "m.onnx", batches=[1], classes=[1, 2], seconds=0.05)
    assert [row.classes for row in report.rows] == [1, 2]
    assert not any("not measured:" in note for note in report.notes)


def test_more_than_memory_holds():
    with pytest.raises(InputError, match=r"No zeros are fed to the input 'u' \(float32 \[1073741824,1073741824\]\)"):
        Explainer(with_input(tensor(FLOAT, [1 << 30, 1 << 30])), preprocess="unit")
    assert len(images(1)) == 1
