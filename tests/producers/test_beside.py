"""Which files beside a model are found, and what becomes of broken ones."""

import json
import os
from pathlib import Path

import pytest

from onnx_xcam.errors import PreprocessError
from onnx_xcam.images import PRESETS
from onnx_xcam.producers.beside import config_beside, statements_beside

HUGGING_FACE = {"do_resize": True, "size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")


def sources(model):
    return [(one.source, bool(one.settings), one.labels) for one in statements_beside(model)]


def test_files_named_after_the_model_come_first(tmp_path):
    model = tmp_path / "net.onnx"
    assert sources(model) == []
    write(tmp_path / "preprocessor_config.json", HUGGING_FACE)
    write(tmp_path / "config.json", {"id2label": {"0": "cat", "1": "dog"}})
    write(tmp_path / "other.preprocess.json", {"scale": 2})
    assert sources(model) == [
        ("'preprocessor_config.json' beside the model", True, None),
        ("'config.json' beside the model", False, ("cat", "dog")),
    ]
    write(tmp_path / "net.preprocess.yaml", "preset: unit")
    write(tmp_path / "net.labels.txt", "a\nb\n")
    own, labels, *_ = statements_beside(model)
    assert (own.source, own.own, own.binding) == ("'net.preprocess.yaml' beside the model", True, False)
    assert own.settings["scale"] == PRESETS["unit"].scale
    assert (labels.source, labels.labels) == ("'net.labels.txt' beside the model", ("a", "b"))


@pytest.mark.parametrize(
    ("folder", "found"),
    [("onnx", True), ("1", True), ("20240131", True), ("models", False), ("v1", False), ("1" * 30, False)],
)
def test_the_folder_above_counts_for_some_names_of_folders(tmp_path, folder, found):
    write(tmp_path / "preprocessor_config.json", HUGGING_FACE)
    write(tmp_path / "config.json", {"id2label": {"0": "cat"}, "problem_type": "x"})
    above = [
        ("'preprocessor_config.json' in the folder above the model's", True, None),
        ("'config.json' in the folder above the model's", False, ("cat",)),
    ]
    assert sources(tmp_path / folder / "model.onnx") == (above if found else [])
    assert config_beside(tmp_path / folder / "model.onnx").get("problem_type") == ("x" if found else None)


def test_the_models_own_folder_comes_before_the_one_above(tmp_path):
    write(tmp_path / "config.json", {"id2label": {"0": "above"}})
    write(tmp_path / "onnx" / "config.json", {"id2label": {"0": "own"}})
    assert [one.labels for one in statements_beside(tmp_path / "onnx" / "model.onnx")] == [("own",), ("above",)]


def test_a_path_relative_to_the_folder_itself(tmp_path, monkeypatch):
    write(tmp_path / "config.json", {"id2label": {"0": "cat"}})
    (tmp_path / "onnx").mkdir()
    monkeypatch.chdir(tmp_path / "onnx")
    assert [one.labels for one in statements_beside(Path("model.onnx"))] == [("cat",)]


def test_a_model_whose_name_has_braces(tmp_path):
    write(tmp_path / "{x}.preprocess.json", {"preset": "unit"})
    assert [one.own for one in statements_beside(tmp_path / "{x}.onnx")] == [True]


def test_broken_files(tmp_path):
    """One that is named after the model, or is surely meant, is refused; any other is passed over, with a remark."""
    model = tmp_path / "net.onnx"
    write(tmp_path / "config.json", '{"id2label": ')
    (broken,) = statements_beside(model)
    assert not broken.settings and broken.labels is None
    assert broken.remarks[0].startswith("'config.json' beside the model cannot be read (")
    assert broken.remarks[0].endswith(") and is passed over.")
    write(tmp_path / "config.json", {"model_type": "something else"})
    assert statements_beside(model) == []
    write(tmp_path / "preprocessor_config.json", HUGGING_FACE | {"do_rotate": True})
    (refused,) = statements_beside(model)
    assert isinstance(refused.refusal, PreprocessError)
    assert "'preprocessor_config.json' beside the model: the step do_rotate" in str(refused.refusal)
    write(tmp_path / "net.preprocess.json", "{")
    refused, _ = statements_beside(model)
    assert isinstance(refused.refusal, PreprocessError) and "not valid JSON" in str(refused.refusal)


def test_a_folder_or_a_pipe_of_that_name_is_no_file(tmp_path):
    (tmp_path / "config.json").mkdir()
    os.mkfifo(tmp_path / "preprocessor_config.json")
    assert statements_beside(tmp_path / "net.onnx") == []
