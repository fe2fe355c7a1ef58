"""docs/schemas say what is written: they are made of the types, and what the commands write fits them."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import onnx_xcam
from helpers import tiny_models
from helpers.command_line import KNOWN, PHOTOS
from helpers.schemas import load_schema, problems
from helpers.token_models import token_model
from onnx_xcam.cli import app
from onnx_xcam.images.write import write_image
from onnx_xcam.records.checking import fits
from tools.release import schemas


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with a model and photos, one of them damaged."""
    path = tmp_path_factory.mktemp("schemas")
    onnx.save(tiny_models.tiny(metadata=KNOWN), path / "model.onnx")
    (path / "photos").mkdir()
    for name, pixels in PHOTOS.items():
        write_image(path / "photos" / name, pixels)
    (path / "photos" / "damaged.png").write_bytes(b"no picture")
    return path


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        app([*arguments, "-q"], prog_name="onnx-xcam")
    return int(ended.value.code)


@pytest.mark.parametrize("path", schemas.texts(), ids=lambda path: path.name)
def test_the_schemas_are_up_to_date(path):
    assert path.read_text(encoding="utf-8") == schemas.texts()[path], "run: python -m tools.release.schemas"


def test_there_is_no_other_schema():
    assert set(schemas.FOLDER.iterdir()) == set(schemas.texts())


EXPLAIN = {
    "one": [],
    "two layers": ["--layer", "features", "--layer", "c", "--top", "2", "--raw"],
    "two methods": ["--method", "xgrad-cam", "--method", "eigen-cam", "--signed"],
    "both, fused": [
        *("--layer", "features", "--layer", "c", "--fuse", "mean"),
        *("--method", "xgrad-cam", "--method", "grad-cam", "--no-pictures"),
    ],
    "no probabilities": ["--probabilities", "none", "--class", "3"],
}


@pytest.mark.parametrize("kind", EXPLAIN)
def test_lines_of_explain(kind, folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    assert run("explain", "model.onnx", "photos", *EXPLAIN[kind], "-o", str(tmp_path / "out")) == 1
    records = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_bytes().splitlines()]
    assert sorted(one["error"] is None for one in records) == [False, True, True, True]
    schema = load_schema("explain-results")
    assert [problems(one, schema) for one in records] == [[]] * 4
    count = 2 ** (kind == "both, fused" or kind.startswith("two")) * 2 ** (kind == "both, fused")
    assert {len(one["maps"]) for one in records if one["error"] is None} == {count}
    assert all(one["layer"] == "features" for one in records)


def test_lines_and_summary_of_evaluate(folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(folder)
    out = tmp_path / "out"
    options = ["--layer", "features", "--layer", "c", "--steps", "2", "--sanity", "1", "--exact"]
    assert run("evaluate", "model.onnx", "photos", *options, "-o", str(out)) == 1
    records = [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]
    assert [problems(one, load_schema("evaluate-results")) for one in records] == [[]] * 4
    summary = json.loads((out / "summary.json").read_bytes())
    assert problems(summary, load_schema("evaluate-summary")) == [] and summary["sanity"] and summary["failed"] == 1


@pytest.mark.parametrize("kind", ["plain", "fused", "tokens", "labelled"])
def test_metadata_of_an_instrumented_model(kind):
    made = {
        "plain": lambda: onnx_xcam.instrument(tiny_models.tiny(classes=1)),
        "fused": lambda: onnx_xcam.instrument(tiny_models.tiny(), layers=["features", "c"], fuse="max", emit=["map"]),
        "tokens": lambda: onnx_xcam.instrument(token_model("class token")),
        "labelled": lambda: onnx_xcam.instrument(tiny_models.tiny(metadata=KNOWN, end="softmax")),
    }[kind]()
    stated = json.loads({entry.key: entry.value for entry in made.metadata_props}["onnx_xcam"])
    assert problems(stated, load_schema("metadata")) == []


def test_what_does_not_fit_is_found():
    """The reading of schemas that these tests rest on, and the package's own check, can say no."""
    line = {
        **{"version": 2, "image": "a", "model": "m", "layer": "l", "method": "x", "classes": [1], "labels": None},
        **{"scores": [1.5, None], "probabilities": None, "status": [0], "files": [], "seconds": 1, "error": None},
        **{"maps": [{"layer": "l", "method": "x", "status": [0]}], "settings": {}, "path": "../a", "sha256": None},
    }
    title, kind = schemas.SCHEMAS["explain-results"]
    schema = schemas.schema(title, kind)
    assert problems(line, schema) == [] and fits(line, kind)
    wrong = [{"version": "2"}, {"scores": [True]}, {"labels": [1]}, {"maps": [{}]}, {"maps": None}, {"seconds": "1"}]
    wrong += [{"settings": {"a": 1}}, {"status": [0.5]}, {"sha256": 1}, {"files": "a"}]
    for change in wrong:
        assert problems(line | change, schema), change
        assert not fits(line | change, kind), change
    for name in line:
        less = {key: value for key, value in line.items() if key != name}
        assert problems(less, schema) == [f"$: there is no {name!r}"]
        assert not fits(less, kind)
    assert problems(line | {"more": 1}, schema) == ["$: 'more' is not in the schema"]
    assert fits(line | {"more": 1}, kind), "a field that a later version adds"
