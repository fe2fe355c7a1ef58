"""The example of a detector, with ONNX Runtime alone, tells what onnx_xcam tells of the same picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import onnx_xcam
from helpers import ROOT

MODEL, PROGRAM = ROOT / "sample_models/tiny_detector.onnx", ROOT / "examples/python/detector.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the instrumented detector and a part of the scene, which is enlarged by 1.5 and letterboxed.

    Photos are made smaller by onnx_xcam as Pillow does it and by the example as OpenCV does, and larger alike.
    """
    path = tmp_path_factory.mktemp("detector")
    onnx_xcam.instrument_file(MODEL, path / "detector.onnx", emit=("map",))
    scene = cv2.imread(str(ROOT / "sample_models/pictures/shapes.png"))
    cv2.imwrite(str(path / "wide.png"), scene[8:56, 32:])
    return path


def run(folder: Path, *options: str) -> list[dict[str, object]]:
    command = [sys.executable, str(PROGRAM), "detector.onnx", "wide.png", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_objects_and_boxes_of_the_photo(folder: Path) -> None:
    told = run(folder, "--top", "100")
    want = onnx_xcam.Explainer(MODEL).explain(folder / "wide.png", top=len(told) + 1)
    there = want.objects[0] >= 0
    assert len(told) == there.sum() >= 2
    assert [one["candidate"] for one in told] == want.objects[0][there].tolist()
    assert [one["class"] for one in told] == want.classes[0][there].tolist()
    np.testing.assert_allclose([one["box"] for one in told], want.boxes[0][there], atol=0.5)
    np.testing.assert_allclose([one["p"] for one in told], want.probabilities[0][there], atol=0.02)
    assert all(cv2.imread(str(folder / one["picture"])).shape == (48, 64, 3) for one in told)


def test_a_point_chooses_the_object_there(folder: Path) -> None:
    best = run(folder, "--top", "2")[1]
    x1, y1, x2, y2 = best["box"]
    assert run(folder, "--point", f"{(x1 + x2) / 2},{(y1 + y2) / 2}") == [best]
    with pytest.raises(AssertionError, match=r"No object is kept at 1,1\."):
        run(folder, "--point", "1,1")
