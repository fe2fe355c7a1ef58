"""What lies beside a model is input from outside: opening the model stays quick, and what is said stays one line."""

from __future__ import annotations

import json
import os
import time

import onnx
import pytest

from helpers.tiny_models import tiny
from onnx_xcam import inspect
from onnx_xcam.common import descriptions
from onnx_xcam.errors import LabelsError, PreprocessError
from onnx_xcam.images import InputSpec
from onnx_xcam.producers.beside import statements_beside
from onnx_xcam.producers.evidence import evidence
from onnx_xcam.producers.settle import settle

SPEC = InputSpec("image", "float32", "NCHW", 3, 8, 8)


def remarks(model):
    return [remark for one in statements_beside(model) for remark in (*one.remarks, *one.label_remarks)]


def test_large_files_are_not_read_when_they_are_only_found(tmp_path):
    """Files of holes: reading one would take 1 GiB and a while."""
    model = tmp_path / "model.onnx"
    names = ("config.json", "labels.txt", "inference.yml", "metadata.yaml", "cvexport.manifest")
    for name in names:
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 30)
    start = time.monotonic()
    found = remarks(model)
    assert time.monotonic() - start < 5
    for name in names:
        limit = 512 if "yml" in name or "yaml" in name else 8192
        sentence = f"it has more than {limit} KiB, which are read only of a file that you name"
        assert f"'{name}' beside the model cannot be read ({sentence}) and is passed over." in found


def test_yaml_that_would_take_long_is_not_parsed_when_it_is_only_found(tmp_path):
    """A file that the user names may take longer."""
    model = tmp_path / "model.onnx"
    (tmp_path / "inference.yml").write_text("- a\n" * 140_000)
    assert "more than 512 KiB" in remarks(model)[0]
    (tmp_path / "inference.yml").unlink()
    for name in ("labels.txt", "classes.txt", "dict.txt"):
        (tmp_path / name).write_bytes(b"x\n" * (3 << 20))
    assert [one for one in remarks(model) if "too many and too large; name the one that is meant" in one]


@pytest.mark.parametrize(
    ("name", "error"), [("model.preprocess.json", PreprocessError), ("model.labels.txt", LabelsError)]
)
def test_a_large_file_that_is_named_after_the_model_is_refused(tmp_path, name, error):
    with (tmp_path / name).open("wb") as file:
        file.truncate(1 << 30)
    (found,) = statements_beside(tmp_path / "model.onnx")
    assert isinstance(found.refusal, error)
    assert "is not read: it has more than 8192 KiB" in str(found.refusal)


def test_a_label_file_that_another_file_names_is_bounded_too(tmp_path):
    (tmp_path / "config.pbtxt").write_text('output [{ name: "o" label_filename: "many" }]\n')
    with (tmp_path / "many").open("wb") as file:
        file.truncate(1 << 30)
    (found,) = statements_beside(tmp_path / "model.onnx")
    assert "it has more than 8192 KiB" in str(found.refusal)
    assert descriptions.FOUND_FILE == 8192 << 10


def test_a_link_has_its_files_beside_itself(tmp_path):
    """As in the cache of a model hub, whose snapshots lead to blobs with names of digits."""
    snapshot, blobs = tmp_path / "snapshots" / "abc", tmp_path / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "0123").write_bytes(b"")
    (blobs / "config.json").write_text(json.dumps({"id2label": {"0": "of the blob"}}))
    (blobs / "4567").write_text(json.dumps({"id2label": {"0": "of the link"}}))
    (snapshot / "model.onnx").symlink_to(blobs / "0123")
    (snapshot / "config.json").symlink_to(blobs / "4567")
    assert [one.labels for one in statements_beside(snapshot / "model.onnx")] == [("of the link",)]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_is_no_file_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    (tmp_path / "labels.txt").mkdir()
    (tmp_path / "inference.yml").symlink_to("/dev/zero")
    (tmp_path / "classes.txt").symlink_to("classes.txt")
    (tmp_path / "model.preprocess.json").symlink_to("/dev/tty")
    assert statements_beside(tmp_path / "model.onnx") == []


def test_a_folder_of_very_many_files_is_not_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "listdir", lambda *_: pytest.fail("listed"))
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("listed"))
    assert statements_beside(tmp_path / "model.onnx") == []


@pytest.mark.parametrize("path", ["/model.onnx", "/1/model.onnx", "/onnx/model.onnx", "model.onnx", "x/../model.onnx"])
def test_paths_without_a_folder_above(path, tmp_path, monkeypatch):
    from pathlib import Path

    monkeypatch.chdir(tmp_path)
    assert [one for one in statements_beside(Path(path)) if "hostile" in one.source] == []


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_names_with_line_ends_and_escapes_stay_on_one_line(tmp_path):
    """Of a model, of its labels, and what a description says."""
    stem = "a\nb\x1b[2Jc"
    model = tmp_path / f"{stem}.onnx"
    onnx.save(tiny(), model)
    (tmp_path / f"{stem}.labels.txt").write_text("x\ny\n" * 40)
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": "\x1b[2J" * 300_000}}))
    (tmp_path / "metadata.yaml").write_text("{")
    text = inspect(model).text()
    assert "\x1b" not in text
    assert "a\\x0ab\\x1b[2Jc" in text
    assert max(map(len, text.splitlines())) < 3000


@pytest.mark.parametrize(
    "data",
    [
        {"x" * 1_000_000: 1},
        {"x y " * 300_000: 1},
        {"mean": "x" * 1_000_000},
        {"mean": [1.5] * 300_000},
        {"resize": ["x y" * 300_000]},
        {"pretrained_cfg": {"input_size": ["x y"] * 300_000}},
    ],
)
def test_long_keys_and_values_are_cut(tmp_path, data):
    path = tmp_path / "own.json"
    path.write_text(json.dumps(data))
    with pytest.raises(PreprocessError) as raised:
        settle(evidence(path, None, {}, None), SPEC)
    assert len(str(raised.value)) <= 1500


def test_remarks_are_cut():
    entries = {"Image.BitmapPixelFormat": "x y " * 300_000, "Image.NominalPixelRange": "NominalRange_0_255"}
    found = evidence(None, None, entries, None)
    told = [remark for one in found for remark in one.remarks]
    assert told
    assert all(len(remark) <= 1500 for remark in told)
