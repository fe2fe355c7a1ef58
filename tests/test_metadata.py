"""One type for what a model says of itself: written and read the same, with the defaults of version 1."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnx_xcam
from helpers.schemas import load_schema, problems
from helpers.tiny_models import LABELS, tiny
from onnx_xcam import Explainer, instrument
from onnx_xcam.contract import Grid, Probabilities, Window
from onnx_xcam.errors import ModelError
from onnx_xcam.metadata import Candidates, CutMember, Hints, Metadata, Misstated, read_hints

DATA = Path(__file__).parent / "data"
WRITTEN = json.loads((DATA / "metadata_version_1.json").read_text(encoding="utf-8"))
"""What version 1 of the contract has been written as, by the first release that had all of its fields."""

FULL = Metadata(
    layers=("a", "x"),
    layouts=("NCHW", "TNC"),
    score="logits",
    method="layer-cam",
    relu=False,
    fuse="max",
    preprocess={"size": [16, 16]},
    labels=("cat", "dog"),
    notes=("Score: output 'logits'.",),
    class_count=2,
    activation="Softmax",
    grids=(None, Grid(2, None, 1, 0)),
    probabilities=Probabilities("y", "exp", 0.5, 3.0),
    picture="left",
    logits=Probabilities("logits", "softmax"),
    is_number=True,
    names=((), ("node", "block.1")),
    task="detection",
    candidates=Candidates("xcam/scores", 1, "one table", True, 0.25, 0.45),
    cut=(CutMember("a", (8.0, 8.0)), CutMember("x", None)),
    window=Window(0.0, 0.25, 1.0, 1.5),
)


def props(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}


def test_every_field_is_written_and_read():
    unused = [
        field.name
        for field in dataclasses.fields(Metadata)
        if field.name not in ("version", "unstated") and getattr(FULL, field.name) in (field.default, (), None)
    ]
    assert not unused, f"FULL leaves {unused} at their defaults; a field that is not written or read would go unnoticed"
    assert Metadata.from_json(FULL.to_json()) == FULL
    assert problems(json.loads(FULL.to_json()), load_schema("metadata")) == []


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_was_written_once_is_read_and_written_the_same(kind):
    """What has come since, the task, is not stated there."""
    read = Metadata.from_json(WRITTEN[kind])
    assert json.loads(read.to_json()) == {**json.loads(WRITTEN[kind]), "task": "classification"}
    assert read.unstated == {"task"}


def test_a_file_of_an_earlier_release_is_used_as_it_was(tmp_path):
    path = DATA / "instrumented_version_1.onnx"
    explainer = Explainer(path)
    assert (explainer.layers, explainer.score, explainer.labels) == (("features",), "logits", tuple(LABELS))
    assert explainer.preprocess.to_dict()["mean"] == [0.5, 0.5, 0.5]
    found = explainer.explain(np.random.default_rng(0).normal(0, 1, (1, 3, 16, 16)).astype(np.float32))
    assert found.classes.tolist() == [[1]] and found.labels == [["bee"]]
    np.testing.assert_allclose(found.probabilities, [[0.7800982]], rtol=1e-5)
    np.testing.assert_allclose(found.maps[0, 0, 0, :3], [0.02168579, 0.02171166, 0.06107763], rtol=1e-4)
    report = onnx_xcam.inspect(path)
    assert report.instrumented and report.classes == 5 and report.activation == "Softmax"


def test_the_surgery_writes_the_same_as_that_release():
    model = tiny(end="softmax")
    model.metadata_props.add(key="onnx_xcam.labels", value=json.dumps(LABELS))
    description = {"size": [16, 16], "mean": [0.5] * 3, "std": [0.25] * 3}
    model.metadata_props.add(key="onnx_xcam.preprocess", value=json.dumps(description))
    written = json.loads(props(instrument(model))["onnx_xcam"])
    assert written.pop("task") == "classification", "the task has come since"
    assert written == json.loads(WRITTEN["labels and preprocessing"])


def test_what_is_left_out_has_a_default():
    read = Metadata.from_json('{"layers": ["a"], "score": "y", "later": {"field": 1}}')
    assert read == Metadata(layers=("a",), layouts=(), score="y")
    assert (read.layout(0), read.grid(0), read.names_of(0), read.method) == ("NCHW", None, (), "xgrad-cam")
    assert read.unstated == {"layouts", "grids", "task", "probabilities", "logits"}
    nothing = Metadata.from_props({}, "the model")
    assert (nothing.layers, nothing.score, nothing.relu, nothing.version) == ((), "", True, 1)
    nulls = Metadata.from_json(json.dumps({name: None for name in json.loads(FULL.to_json()) if name != "version"}))
    assert nulls == nothing
    assert nulls.unstated == {"layouts", "grids", "task"}, "probabilities that are null are stated: there are none"


@pytest.mark.parametrize("stated", [[], {}, "y", ["y"], ["y", "none", 1], ["y", 1], ["y", "none", True, 0], 5])
def test_a_source_of_probabilities_that_means_nothing_is_kept_as_it_stands(stated):
    """`inspect` shows such a file; whoever needs the probabilities refuses it."""
    read = Metadata.from_json(json.dumps({"layers": ["a"], "score": "y", "probabilities": stated}))
    assert read.probabilities == Misstated(stated)
    assert json.loads(read.to_json())["probabilities"] == stated


def test_metadata_that_are_no_object():
    for text in ("[]", "1", "{", '{"layers": "a"}'):
        with pytest.raises(ModelError, match=r"The metadata 'onnx_xcam' of 'm\.onnx' cannot be read"):
            Metadata.from_props({"onnx_xcam": text}, "'m.onnx'")


def test_hints_stand_in_the_metadata_or_under_keys_of_their_own():
    both = {"onnx_xcam": '{"labels": ["a", null, 3], "preprocess": {"size": 8}}'}
    assert read_hints({}) == Hints(None, None)
    assert read_hints(both) == Hints({"size": 8}, ("a", "", "3"))
    own = {**both, "onnx_xcam.labels": '["b"]', "onnx_xcam.preprocess": "null"}
    assert read_hints(own) == Hints(None, ("b",)), "their own keys are the ones that count"
    for wrong in ({"onnx_xcam": '{"labels": "a"}'}, {"onnx_xcam.preprocess": "[1]"}, {"onnx_xcam.labels": "[[1]]"}):
        with pytest.raises(ModelError, match=r"preprocessing or labels in a wrong form|labels that are no texts"):
            read_hints(wrong)
