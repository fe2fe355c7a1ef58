"""Objects in other runtimes: those of ONNX Runtime, with their boxes, and maps within 1e-3 of the largest value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.runtimes import need_module
from onnx_xcam import contract
from tools.runtimes import __main__ as compatibility
from tools.runtimes import detector
from tools.runtimes.adapters import RUNTIMES

MODULES = {"openvino": "openvino", "opencv": "cv2", "tract": "tract", "reference": "onnx"}
"""The module of each runtime that is tried where it is installed."""


@pytest.mark.parametrize("job", detector.HEADS)
@pytest.mark.parametrize("name", MODULES)
def test_objects_are_those_of_onnx_runtime(name: str, job: str, tmp_path: Path) -> None:
    need_module(MODULES[name])
    if (name, job) == ("opencv", "no object"):
        pytest.skip(
            "OpenCV 5.0.0 ends the process (signal 8) where a picture has no object; docs/compatibility.md says so"
        )
    content, feeds = detector.jobs("required")[job]
    path = tmp_path / "explained.onnx"
    path.write_bytes(content)
    wanted, found = (RUNTIMES[one].run(path, feeds) for one in ("onnxruntime", name))
    there = wanted[contract.OBJECTS] >= 0
    assert there.sum() == (0 if job == "no object" else 4), "else this test would show little"
    compared: dict[str, Any] = compatibility._compared(wanted, found)
    outputs = compared["outputs"]
    for exact in (contract.OBJECTS, contract.CLASSES, "xcam_status"):
        assert outputs[exact] == 0
    assert max(outputs.values()) <= compatibility.ENOUGH
    assert np.asarray(found["xcam_map"])[there].any(axis=(-2, -1)).all()
    assert not np.asarray(found["xcam_map"])[~there].any()


def test_the_table_has_a_row_for_each_runtime() -> None:
    record = {f"One 1.0|{detector.NAME}|objects": {"outputs": {"xcam_map": 2e-3}}}
    notes = compatibility.Notes()
    text = detector.table(record, ["One 1.0", "Two 2.0"], lambda one: compatibility.cell(one, None, 1e-3, notes))
    assert "| One 1.0 | **2e-03** | - | - |" in text and "| Two 2.0 | - | - | - |" in text
