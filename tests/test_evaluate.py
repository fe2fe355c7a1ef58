"""evaluate: the command, its files, and going on with what was cut short."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from onnx_xcam.cli.app import app
from onnx_xcam.errors import XcamError
from onnx_xcam.evaluation.metrics import METRICS, find_metrics
from onnx_xcam.evaluation.summary import summarise

ROOT = Path(__file__).resolve().parent.parent / "sample_models"
OPTIONS = ["--metrics", "deletion,drop,conservation", "--steps", "3", "--method", "xgrad-cam", "--method", "grad-cam++"]


def run(out, *more, photos=(ROOT / "photos",)):
    arguments = ["evaluate", str(ROOT / "efficientnet_lite0.onnx"), *map(str, photos), "-o", str(out), *OPTIONS, *more]
    return CliRunner().invoke(app, arguments)


def lines(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_files_agree_with_each_other_and_resume_does_only_the_rest(tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    out = tmp_path / "out"
    first = run(out, photos=(ROOT / "photos" / "cat.png", bad))
    assert first.exit_code == 1
    assert "bad.png" in first.stderr
    records = lines(out)
    assert [record["error"] is None for record in records] == [True, False]
    assert list(records[0]["results"][0]["metrics"]) == ["conservation", "deletion", "drop"]
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader((out / "results.csv").read_text(encoding="utf-8").splitlines()))
    assert (summary["images"], summary["failed"], summary["maps"]) == (2, 1, 1)
    for row, result, told in zip(rows, records[0]["results"], summary["rows"], strict=False):
        for name, value in result["metrics"].items():
            assert float(row[name]) == value == told["metrics"][name]["mean"]
    assert len(rows) == 3

    kept = (out / "results.jsonl").read_bytes().splitlines()[0]
    second = run(out, "--resume", photos=(ROOT / "photos",))
    assert second.exit_code == 0, second.stderr
    assert "1 of 3 photos are done already" in second.stderr
    assert (out / "results.jsonl").read_bytes().splitlines()[0] == kept
    assert [record["error"] for record in lines(out)] == [None] * 3
    other = run(out, "--resume", "--background", "zero")
    assert other.exit_code == 1
    assert "another choice of what is measured" in other.stderr


def test_the_summary_is_of_the_numbers():
    values = [0.5, 0.25, None, 1.0]
    records = [
        {"error": None, "seconds": 1.0, "results": [result]}
        for result in ({"layer": "l", "method": "m", "metrics": {"drop": v}, "curves": {}} for v in values)
    ]
    made = summarise(records, model="x", layers=["l"], methods=["m"], metrics=["drop"], confidence="score")
    found = made["rows"][0]["metrics"]["drop"]
    numbers = [v for v in values if v is not None]
    assert found["mean"] == pytest.approx(np.mean(numbers))
    assert found["std"] == pytest.approx(np.std(numbers, ddof=1))
    assert (found["count"], found["min"], found["max"], made["maps"]) == (3, 0.25, 1.0, 4)


def test_metrics_are_found_or_refused():
    assert find_metrics(["drop", "axioms"], truth=False)[-1] == "drop"
    assert set(find_metrics(["axioms", "faithfulness"], truth=True)) == set(METRICS)
    with pytest.raises(XcamError, match="no metric 'dorp'"):
        find_metrics(["dorp"], truth=False)
    with pytest.raises(XcamError, match="--truth"):
        find_metrics(["energy"], truth=False)
