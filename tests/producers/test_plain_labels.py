"""Files with labels beside a model, found by their names."""

import json
import re

import pytest

from helpers.producers import save_classifier
from onnx_xcam import Explainer
from onnx_xcam.errors import XcamWarning
from onnx_xcam.images import PRESETS
from onnx_xcam.producers.dialect import DescriptionFile
from onnx_xcam.producers.dialects import plain_labels

NAMES = ["ash", "beech", "elm", "oak", "yew"]
BY_ID = {str(index): name for index, name in enumerate(NAMES)}
LINES = "\n".join(NAMES)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", LINES),
        ("classes.txt", "\n".join(f"{index} {name}" for index, name in enumerate(NAMES))),
        ("imagenet_classes.txt", LINES + "\n"),
        ("synset.txt", "\n".join(f"n0000000{index} {name}" for index, name in enumerate(NAMES))),
        ("dict.txt", LINES),
        ("trees_labels.txt", LINES),
        ("label_map.json", json.dumps(BY_ID)),
        ("class_indices.json", json.dumps({name: index for index, name in enumerate(NAMES)})),
        ("imagenet_class_index.json", json.dumps({index: ["n01", name] for index, name in BY_ID.items()})),
        ("index_to_name.json", json.dumps(BY_ID)),
        ("labels.json", json.dumps({"vocab": NAMES})),
        ("id2label.json", json.dumps(BY_ID)),
        ("labels.csv", "id,name\n" + "\n".join(f"{index},{name}" for index, name in enumerate(NAMES))),
        ("label_map.pbtxt", "\n".join(f"item {{ id: {index} name: '{name}' }}" for index, name in enumerate(NAMES))),
        ("trees.names", LINES),
        ("classes.yaml", "names: [ash, beech, elm, oak, yew]"),
    ],
)
def test_found_beside_the_model(tmp_path, name, text):
    model = save_classifier(tmp_path / "trees.onnx", [1, 3, 32, 32])
    (tmp_path / name).write_text(text)
    explainer = Explainer(model, preprocess=PRESETS["unit"])
    assert list(explainer.labels) == NAMES
    assert not explainer.warnings


def test_every_name_is_tried_by_the_form_that_it_promises(tmp_path):
    assert len(set(plain_labels.FILES)) == len(plain_labels.FILES)
    for name in plain_labels.FILES:
        path = tmp_path / name.format(stem="trees")
        text = {".json": json.dumps(NAMES), ".pbtxt": "item { id: 0 name: 'ash' }"}.get(path.suffix, LINES)
        path.write_text("\n".join(f"- {name}" for name in NAMES) if path.suffix in (".yaml", ".yml") else text)
        assert plain_labels.recognises(DescriptionFile.read(path, "x")), name


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("labels.json", '{"format": "coco"}', "'format' is no id"),
        ("labels.txt", "\n", "has no labels"),
        ("label_map.pbtxt", "item {", "no label map"),
        ("labels.csv", "id,name\n1,ash\n2,beech\n3,elm\n4,oak\n5,yew", "begin at 1"),
        ("labels.txt", "frêne\nhêtre", "not a text in UTF-8"),
    ],
)
def test_a_file_without_labels_is_passed_over_and_said(tmp_path, name, text, reason):
    model = save_classifier(tmp_path / "trees.onnx", [1, 3, 32, 32])
    (tmp_path / name).write_text(text, "latin-1")
    with pytest.warns(XcamWarning, match=rf"Labels: none known.*'{re.escape(name)}' beside the model.*{reason}"):
        explainer = Explainer(model, preprocess="unit")
    assert explainer.labels is None


def test_a_file_of_another_name_is_not_looked_at(tmp_path):
    (tmp_path / "readme.txt").write_text(LINES)
    assert not plain_labels.recognises(DescriptionFile.read(tmp_path / "readme.txt", "x"))


@pytest.mark.parametrize("classes", [5, 6])
def test_a_label_map_that_begins_at_1(tmp_path, classes):
    """The id 0 is the background's; a model without an output for it has the first label at its first output."""
    model = save_classifier(tmp_path / "trees.onnx", [1, 3, 32, 32], classes)
    items = [f"item {{ id: {index} name: '{name}' }}" for index, name in enumerate(NAMES, 1)]
    (tmp_path / "label_map.pbtxt").write_text("\n".join(items))
    explainer = Explainer(model, preprocess="unit")
    assert list(explainer.labels) == [""] * (classes - 5) + NAMES
    (note,) = [note for note in explainer.notes if note.startswith("Labels: ")]
    assert ("beside the model, whose ids begin at 1: id 1 names class 0." in note) is (classes == 5)
