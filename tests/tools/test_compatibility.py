"""tools/runtimes/: what its cells say, and programs of any kind as rows."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tools.common.exported import Model
from tools.common.folders import SAMPLE_MODELS
from tools.runtimes import __main__ as compatibility


def good(value, logits=1e-6):
    return {"outputs": {"logits": logits, "xcam_map": value}}


@pytest.mark.parametrize(
    ("result", "original", "allowed", "text"),
    [
        (good(2e-6), {"outputs": {"logits": 1e-6}}, 1e-3, "2e-06"),
        (good(2e-3), {"outputs": {"logits": 1e-6}}, 1e-3, "**2e-03**"),
        (good(2e-3), {"outputs": {"logits": 1e-6}}, 3e-3, "2e-03"),
        (good(2e-6), {"outputs": {"logits": 1e-2}}, 1e-3, "2e-06 (original 1e-02)"),
        ({"error": "no Gather"}, {"outputs": {"logits": 1e-6}}, 1e-3, "fails [1]"),
        ({"error": "no Gather"}, {"error": "no Conv"}, 1e-3, "original fails [1]"),
        (None, None, 1e-3, "-"),
    ],
)
def test_cells(result, original, allowed, text):
    notes = compatibility.Notes()
    assert compatibility.cell(result, original, allowed, notes) == text
    assert len(notes.texts) == ("[1]" in text)


def test_differences():
    want = {"xcam_map": np.array([[0.0, 2.0]], np.float32), "xcam_classes": np.array([[3]])}
    near = {"xcam_map": np.array([[0.0, 2.002]]), "xcam_classes": np.array([[3]], np.int32)}
    assert compatibility._compared(want, near)["outputs"] == pytest.approx({"xcam_map": 1e-3, "xcam_classes": 0.0})
    assert compatibility._compared(want, {**near, "xcam_classes": np.array([[4]])})["outputs"]["xcam_classes"] == 1.0
    assert compatibility._compared(want, {**near, "xcam_map": np.array([[0.0, np.nan]])})["outputs"]["xcam_map"] == 1e30
    assert "shape" in compatibility._compared(want, {**near, "xcam_map": np.zeros((1, 1))})["error"]
    assert "no output" in compatibility._compared(want, {"xcam_map": near["xcam_map"]})["error"]


@pytest.mark.parametrize(
    ("code", "seconds", "text"),
    [
        ("import os; os.kill(os.getpid(), 11)", 600.0, "crashes (signal 11)"),
        ("raise SystemExit('no kernel for TopK: not supported')", 600.0, "no kernel for TopK: not supported"),
        ("pass", 600.0, "writes no outputs.json"),
        ("import threading; threading.Event().wait()", 2.0, "not done after 2 s"),
    ],
)
def test_what_fails_is_told(code, seconds, text):
    program = compatibility.Program("Mine", (sys.executable, "-c", code), "required")
    model = SAMPLE_MODELS / "efficientnet_lite0.onnx"
    assert compatibility.run(program, model, 1, None, seconds) == {"error": text}


def test_a_program_of_any_kind_is_a_row():
    """What `--command` starts reads inputs.json and writes outputs.json; here ONNX Runtime against itself."""
    program = compatibility.Program("Mine", (sys.executable, "-m", "tools.runtimes.case", "onnxruntime"), "required")
    model = Model("tiny", SAMPLE_MODELS / "efficientnet_lite0.onnx")
    explained = compatibility.instrumented(model.path, "required")
    found = compatibility.run(program, explained, 3, [[281, 7], [7, 281], [1, -1]], 60.0)
    assert found == {"outputs": dict.fromkeys(("logits", "xcam_classes", "xcam_scores", "xcam_map"), 0.0)}
