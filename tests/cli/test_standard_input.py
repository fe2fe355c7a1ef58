"""A photo from standard input: explained and compared as a file is, and called stdin."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from helpers.tiny_models import tiny
from onnx_xcam.cli.app import app

RGB = np.random.default_rng(3).integers(0, 256, (31, 23, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(tiny(), tmp_path / "m.onnx")
    (tmp_path / "p.png").write_bytes(cv2.imencode(".png", RGB)[1].tobytes())
    return tmp_path


def run(*words, given=b""):
    return CliRunner().invoke(app, [*words, "--preprocess", "unit"], input=given)


def line_of(folder):
    (line,) = (folder / "results.jsonl").read_text().splitlines()
    return json.loads(line)


def test_explain(folder):
    data = (folder / "p.png").read_bytes()
    done = run("explain", "m.onnx", "-", "-o", "a", "--raw", "--html", "a.html", given=data)
    assert done.exit_code == 0, done.output
    assert run("explain", "m.onnx", "p.png", "-o", "b", "--raw").exit_code == 0
    ours, theirs = line_of(folder / "a"), line_of(folder / "b")
    assert (ours["image"], ours["path"], ours["sha256"]) == ("stdin", "-", None)
    assert ours["scores"] == theirs["scores"]
    assert [name.replace("a/stdin", "b/p") for name in ours["files"]] == theirs["files"]
    assert (folder / "a" / f"stdin.{ours['classes'][0]}.png").is_file()
    with np.load(folder / "a" / "stdin.npz") as one, np.load(folder / "b" / "p.npz") as other:
        np.testing.assert_array_equal(one["map"], other["map"])


def test_among_other_photos(folder):
    done = run("explain", "m.onnx", "p.png", "-", "-", "-o", "a", given=(folder / "p.png").read_bytes())
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (folder / "a" / "results.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == ["p.png", "stdin"]
    assert lines[0]["scores"] == lines[1]["scores"]


def test_what_is_no_photo(folder):
    for given, said in ((b"", "stdin: the file is empty (0 bytes)"), (b"hello", "stdin: not a picture that OpenCV")):
        done = run("explain", "m.onnx", "-", "-o", "a", given=given)
        assert done.exit_code == 1
        assert f"error: {said}" in done.output
        assert line_of(folder / "a")["error"].startswith(said)
        done = run("compare", "m.onnx", "-", given=given)
        assert done.exit_code == 1
        assert f"error: {said}" in str(done.output) + str(done.exception)


def test_what_contradicts_it(folder):
    data = (folder / "p.png").read_bytes()
    done = run("explain", "m.onnx", "-", "--resume", "--raw", given=data)
    assert "cannot be continued with a photo from standard input" in str(done.output) + str(done.exception)
    (folder / "stdin").write_bytes(data)
    done = run("explain", "m.onnx", "-", "stdin", given=data)
    assert "is called stdin in the results" in str(done.output) + str(done.exception)


def test_compare(folder):
    texts = []
    for name in ("-", "p.png"):
        done = run("compare", "m.onnx", name, "--json", "--no-axioms", given=(folder / "p.png").read_bytes())
        assert done.exit_code == 0, done.output
        texts.append(json.loads(done.stdout))
    assert [one["image"] for one in texts] == ["stdin", "p.png"]
    assert texts[0]["maps"] == texts[1]["maps"]


def test_evaluate_takes_files(folder):
    done = run("evaluate", "m.onnx", "-", given=(folder / "p.png").read_bytes())
    assert "save the one from standard input as a file" in str(done.output) + str(done.exception)
