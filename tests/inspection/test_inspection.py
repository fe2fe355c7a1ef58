"""What `inspect` says of pictures: each part, who says it, and what contradicts it."""

import json

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.models import GAP, GAP_WEIGHTS, TRUNK, TRUNK_WEIGHTS, build
from helpers.producers import save_classifier
from onnx_xcam import Explainer
from onnx_xcam.errors import LabelsError, PreprocessError

HUGGING_FACE = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 32, "width": 32},
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
}
TIMM = {"input_size": [3, 48, 48], "mean": [0.1] * 3, "std": [1] * 3, "crop_pct": 0.9, "interpolation": "bilinear"}
LABELS = {"id2label": dict(enumerate("abcde"))}


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def parts(report):
    return {part.name: (part.value, part.kind, part.source) for part in report.pictures.parts}


def test_each_part_with_its_source(tmp_path):
    model = save_classifier(tmp_path / "net.onnx", ["N", 3, "h", "w"])
    write(tmp_path / "preprocessor_config.json", HUGGING_FACE)
    write(tmp_path / "config.json", LABELS)
    report = onnx_xcam.inspect(model, preprocess=tmp_path / "preprocessor_config.json")
    file, given = "'config.json' beside the model", repr(str(tmp_path / "preprocessor_config.json"))
    assert parts(report) == {
        "size": ("32x32", "argument", given),
        "resize rule": ("stretched", "argument", given),
        "interpolation": ("linear", "argument", given),
        "values": ("-1..1", "argument", given),
        "channel order": ("RGB", "argument", given),
        "layout": ("NCHW", "model", "the model's input"),
        "labels": ("5: a, b, c, ...", "file", file),
    }
    assert report.pictures.preprocess == Explainer(model).preprocess.to_dict()
    lines = report.text().splitlines()
    start = lines.index("Pictures, as 'image' gets them:")
    assert lines[start + 2].split("  ")[1:2] == ["resize rule"] and lines[start + 2].endswith(given)


@pytest.mark.parametrize(
    ("count", "said"), [(1, ("GRAY", "model")), (3, ("RGB", "assumed")), (4, ("as in the file", "assumed")), (13, None)]
)
def test_the_order_of_channels_that_have_no_name(tmp_path, count, said):
    """Only grey and colours have a name for their order; other channels are in the file's."""
    model = save_classifier(tmp_path / "net.onnx", [1, count, 48, 48])
    assert parts(onnx_xcam.inspect(model))["channel order"][:2] == (said or ("as in the file", "assumed"))


def test_the_same_is_said_where_the_model_is_explained(tmp_path):
    model = save_classifier(tmp_path / "net.onnx", [1, 3, 48, 48])
    write(tmp_path / "preprocessor_config.json", HUGGING_FACE)
    write(tmp_path / "config.json", {"pretrained_cfg": TIMM})
    report = onnx_xcam.inspect(model)
    found = {part.name: part.contradictions for part in report.pictures.parts if part.contradictions}
    assert set(found) == {"size", "resize rule", "values"}
    with pytest.warns(onnx_xcam.explainer.XcamWarning) as warned:
        explainer = Explainer(model)
    said = [str(one.message) for one in warned if "Preprocessing" in str(one.message)]
    assert said == [f"Preprocessing: {found['values'][0]} (onnx-xcam inspect shows 2 more)"]
    assert explainer.preprocess.to_dict() == report.pictures.preprocess
    assert len([note for note in explainer.notes if note.startswith("Preprocessing:")]) == 2
    for sentences in found.values():
        assert sentences[0] in report.text()


def test_what_is_wrong_with_a_file_that_was_found_and_with_one_that_was_given(tmp_path):
    model = save_classifier(tmp_path / "net.onnx", [1, 3, 48, 48])
    write(tmp_path / "preprocessor_config.json", {"image_mean": [0.5] * 3, "do_rotate": True})
    report = onnx_xcam.inspect(model)
    assert report.layers and "the step do_rotate is switched on" in report.pictures.problem
    assert report.pictures.problem in report.text()
    with pytest.raises(PreprocessError, match="do_rotate"):
        onnx_xcam.inspect(model, preprocess=tmp_path / "preprocessor_config.json")
    with pytest.raises(PreprocessError, match="do_rotate"):
        Explainer(model)
    assert parts(onnx_xcam.inspect(model, preprocess="unit"))["resize rule"] == ("stretched", "argument", "'unit'")
    write(tmp_path / "two.json", ["a", "b"])
    with pytest.raises(LabelsError, match=r"two\.json' are 2, but the model has 5 classes"):
        onnx_xcam.inspect(model, labels=tmp_path / "two.json")


def test_as_plain_data(tmp_path):
    model = save_classifier(tmp_path / "net.onnx", [1, 3, 48, 48])
    data = json.loads(json.dumps(onnx_xcam.inspect(model).to_dict()))
    assert data["pictures"]["input"] == "image"
    assert [part["name"] for part in data["pictures"]["parts"]][-1] == "labels"
    assert data["score"] == "logits"


def test_a_model_that_is_instrumented_already(tmp_path):
    model = save_classifier(tmp_path / "net.onnx", [1, 3, 48, 48])
    write(tmp_path / "config.json", LABELS)
    onnx_xcam.instrument_file(model, tmp_path / "made.onnx")
    report = onnx_xcam.inspect(tmp_path / "made.onnx")
    assert report.instrumented
    assert parts(report)["labels"] == ("5: a, b, c, ...", "file", "'config.json' beside the model")


def test_a_model_that_takes_no_pictures(tmp_path):
    nodes = [onnx.helper.make_node("MatMul", ["row", "w"], ["logits"])]
    graph = onnx.helper.make_graph(
        nodes,
        "table",
        [onnx.helper.make_tensor_value_info("row", onnx.TensorProto.FLOAT, ["N", 4])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 3])],
        [onnx.numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    report = onnx_xcam.inspect(model)
    assert "'row' has the shape ['N', 4]; an image input has four dimensions" in report.pictures.problem


def normalising(path):
    """A classifier of the helpers whose graph multiplies pixels by 1/255 itself."""
    model = onnx.load(save_classifier(path, [1, 3, 48, 48]))
    model.graph.node[0].output[0] = "pixels"
    scaled = onnx.helper.make_node("Mul", ["pixels", "factor"], ["as_float"])
    model.graph.node.insert(1, scaled)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(1 / 255), "factor"))
    onnx.save(model, path)
    return path


def test_what_the_graph_proves(tmp_path):
    model = normalising(tmp_path / "net.onnx")
    report = onnx_xcam.inspect(model)
    assert parts(report)["values"] == ("0..255", "graph", "the graph itself")
    assert parts(report)["resize rule"][1] == "assumed"
    with pytest.warns(
        onnx_xcam.explainer.XcamWarning,
        match=r"values from the graph itself, resize rule, interpolation and channel order assumed",
    ):
        assert Explainer(model).preprocess.to_dict() == report.pictures.preprocess
    report = onnx_xcam.inspect(model, preprocess="imagenet")
    (values,) = [part for part in report.pictures.parts if part.name == "values"]
    assert values.source == "'imagenet'"
    assert values.contradictions[0].startswith("the graph itself says values 0..255, but 'imagenet' says (")
    with pytest.warns(onnx_xcam.explainer.XcamWarning, match="Preprocessing: the graph itself says values 0"):
        Explainer(model, preprocess="imagenet")


def test_how_likely_an_assumption_is(tmp_path):
    report = onnx_xcam.inspect(save_classifier(tmp_path / "net.onnx", [1, 3, 224, 224]))
    likely = {part.name: part.likely for part in report.pictures.parts if part.likely}
    assert list(likely) == ["resize rule", "interpolation", "values"]
    agreeing, of = likely["values"]
    assert 0 < agreeing < of
    assert f"assumed, as {agreeing} of {of} published weights of this size have it" in report.text()
    oblong = onnx_xcam.inspect(save_classifier(tmp_path / "oblong.onnx", [1, 3, 48, 192]))
    assert not any(part.likely for part in oblong.pictures.parts)
    assert parts(oblong)["resize rule"] == ("stretched", "assumed", "assumed")


def test_every_input_that_takes_pictures_has_a_report(tmp_path):
    text = f"doubled = Mul(right, right) image = Sub(left, doubled) {TRUNK} a = Relu(c2) {GAP}"
    inputs = "float[N,3,16,16] left, float[N,3,16,16] right"
    onnx.save(build(text, {**TRUNK_WEIGHTS, **GAP_WEIGHTS}, inputs=inputs), tmp_path / "net.onnx")
    write(tmp_path / "preprocessor_config.json", HUGGING_FACE)
    report = onnx_xcam.inspect(tmp_path / "net.onnx")
    (other,) = report.other_pictures
    assert {report.pictures.input, other.input} == {"left", "right"}
    found = {part.name: (part.value, part.source) for part in other.parts}
    assert found["values"] == ("-1..1", "'preprocessor_config.json' beside the model")
    assert found["size"] == ("16x16", "the model's input") and "labels" not in found
    assert f"Pictures, as '{other.input}' gets them:" in report.text()
    picture = np.zeros((16, 16, 3), np.uint8)
    with pytest.warns(onnx_xcam.explainer.XcamWarning) as told:
        explainer = Explainer(tmp_path / "net.onnx", inputs={"right": picture})
    of_right = [str(one.message) for one in told if str(one.message).startswith("Input 'right': ")]
    assert len(of_right) == 1 and "says size 32x32, but the model's input is fixed to 16x16" in of_right[0]
    assert explainer.inputs["right"].min() == explainer.inputs["right"].max() == -1
