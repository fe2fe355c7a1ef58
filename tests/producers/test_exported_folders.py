"""The files of Lobe, Teachable Machine, Triton and DeepStream beside a model."""

import json

import pytest

from helpers.producers import LARGEST_DIFFERENCE, save_classifier
from helpers.producers_exporters import NAMES, SIGNATURE, lobe_export, lobe_written_out
from onnx_xcam import Explainer
from onnx_xcam.errors import LabelsError, PreprocessError, XcamWarning
from onnx_xcam.images.fields import check_fields
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects import deepstream, lobe, teachable_machine, triton


def described(path, text):
    """Write a file and return it as a dialect gets it."""
    path.write_text(text)
    return DescriptionFile.read(path, f"'{path.name}' beside the model")


def test_the_labels_of_lobe(tmp_path):
    assert list(Explainer(lobe_export(tmp_path)).labels) == NAMES


def test_lobe_without_its_package(tmp_path):
    assert lobe_written_out(tmp_path) <= LARGEST_DIFFERENCE


def test_damaged_signatures(tmp_path):
    path = tmp_path / "signature.json"
    shapeless = described(path, json.dumps(SIGNATURE | {"inputs": {"Image": {"shape": [3]}}}))
    with pytest.raises(PreprocessError, match=r"'signature.json' beside the model: inputs.Image.shape is \[3\]"):
        lobe.read(shapeless)
    with pytest.raises(LabelsError, match=r"classes\.Label: must hold a list"):
        lobe.read(described(path, json.dumps(SIGNATURE | {"classes": {"Label": 3}})))
    assert not lobe.recognises(described(path, '{"inputs": {"image": {}}}'))
    assert not lobe.recognises(described(path, "[]"))


def test_teachable_machine(tmp_path):
    labels = described(tmp_path / "labels.txt", "0 ash\n1 2nd beech\n2 elm\n")
    assert not teachable_machine.recognises(labels)
    (tmp_path / "keras_model.h5").touch()
    assert teachable_machine.recognises(labels)
    statement = teachable_machine.read(labels)
    assert statement.labels == ("ash", "2nd beech", "elm")
    mean, scale = statement.settings["mean"][0], statement.settings["scale"]
    assert [pixel * scale - mean for pixel in (0, 255)] == pytest.approx([-1, 1])
    assert not teachable_machine.recognises(described(tmp_path / "labels.txt", "ash\nbeech"))


def test_teachable_machines_metadata(tmp_path):
    data = {"tfjsVersion": "1.7.4", "tmVersion": "2.4.7", "packageName": "@teachablemachine/image"}
    file = described(tmp_path / "metadata.json", json.dumps(data | {"labels": NAMES, "imageSize": 224}))
    assert teachable_machine.recognises(file)
    statement = teachable_machine.read(file)
    assert (statement.labels, statement.settings["size"]) == (tuple(NAMES), (224, 224))
    assert not teachable_machine.recognises(described(tmp_path / "metadata.json", '{"labels": []}'))


CONFIG = """
name: "trees"  # a comment
platform: "onnxruntime_onnx"
input [ { name: "image" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, 96, 96 ] } ]
output [
  { name: "logits" data_type: TYPE_FP32 dims: [ 5 ] label_filename: "trees.txt" }
]
"""


def test_triton(tmp_path):
    folder = tmp_path / "trees" / "1"
    folder.mkdir(parents=True)
    model = save_classifier(folder / "model.onnx", [1, 3, 96, 96])
    (folder.parent / "config.pbtxt").write_text(CONFIG)
    (folder.parent / "trees.txt").write_text("\n".join(NAMES))
    with pytest.warns(XcamWarning, match="nothing states it"):
        explainer = Explainer(model)
    assert list(explainer.labels) == NAMES


@pytest.mark.parametrize(
    ("change", "layout", "remark"),
    [
        (("FORMAT_NCHW", "FORMAT_NHWC"), "NHWC", None),
        (("FORMAT_NCHW", "FORMAT_NONE"), None, None),
        (("trees.txt", "../elms.txt"), "NCHW", "label_filename names '../elms.txt', which does not lie beside it"),
    ],
)
def test_tritons_configuration(tmp_path, change, layout, remark):
    (tmp_path / "trees.txt").write_text("\n".join(NAMES))
    file = described(tmp_path / "config.pbtxt", CONFIG.replace(*change))
    assert triton.recognises(file)
    statement = triton.read(file)
    assert statement.settings.get("layout") == layout
    assert (statement.labels is None) == bool(remark)
    assert bool(statement.label_remarks) == bool(remark) and (not remark or remark in statement.label_remarks[0])


def test_a_file_of_labels_that_is_missing_is_said_and_no_more(tmp_path):
    folder = tmp_path / "trees" / "1"
    folder.mkdir(parents=True)
    model = save_classifier(folder / "model.onnx", [1, 3, 96, 96])
    (folder.parent / "config.pbtxt").write_text(CONFIG)
    with pytest.warns(
        XcamWarning, match=r"Labels: none known.*'config\.pbtxt' .*names 'trees.txt', which does not lie"
    ):
        explainer = Explainer(model, preprocess="unit")
    assert explainer.labels is None


@pytest.mark.parametrize("text", ["input [", "a: {", "}", "input: ] ", "%", "name: 'x'", "a {" * 100 + "}" * 100])
def test_what_is_no_configuration(tmp_path, text):
    assert not triton.recognises(described(tmp_path / "config.pbtxt", text))


PROPERTY = """# nvinfer
[property]
gpu-id=0
net-scale-factor=0.0173520735727919486
offsets=103.939;116.779;123.68
model-color-format=1
onnx-file=trees.onnx
labelfile-path=trees.txt
infer-dims=3;60;80
maintain-aspect-ratio=1
[class-attrs-all]
offsets=1;2;3
"""


def test_deepstream(tmp_path):
    (tmp_path / "trees.txt").write_text(";".join(NAMES))
    file = described(tmp_path / "config_infer_primary.txt", PROPERTY)
    assert deepstream.recognises(file)
    statement = deepstream.read(file)
    assert statement.labels == tuple(NAMES)
    scale = 0.0173520735727919486
    assert statement.settings == check_fields(
        {
            **{"resize": "letterbox", "align": "start", "interpolation": "linear", "antialias": False},
            **{"channels": "BGR", "scale": scale, "mean": [scale * m for m in (103.939, 116.779, 123.68)]},
            **{"size": [60, 80]},
        },
        "",
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("mean-file=mean.ppm", "mean-file is not supported"),
        ("model-color-format=7", "model-color-format is '7'"),
        ("net-scale-factor=x", "net-scale-factor is 'x'"),
        ("offsets=1;;2", "offsets is '1;;2'"),
        ("infer-dims=3;0;2", "size"),
    ],
)
def test_damaged_deepstream_files(tmp_path, line, message):
    file = described(tmp_path / "config_infer_primary.txt", f"[property]\n{line}\nonnx-file=m.onnx\n")
    with pytest.raises(PreprocessError, match=f"'config_infer_primary.txt' beside the model: {message}"):
        deepstream.read(file)


def test_a_deepstream_file_without_groups_is_what_tao_exports(tmp_path):
    text = "net-scale-factor=1.0\noffsets=103.939;116.779;123.68\ninfer-dims=3;224;256\nmodel-color-format=1\n"
    file = described(tmp_path / "nvinfer_config.txt", text)
    assert deepstream.recognises(file)
    settings = deepstream.read(file).settings
    assert (settings["channels"], settings["mean"], settings["size"]) == ("BGR", (103.939, 116.779, 123.68), (224, 256))


def test_another_text_is_no_configuration(tmp_path):
    assert not deepstream.recognises(
        described(tmp_path / "config_infer.txt", "net-scale-factor=1\n[other]\nonnx-file=x")
    )
