"""The verdict of the sweep over detectors: what was measured passes, and each thing that may be wrong fails it."""

from __future__ import annotations

from typing import Any

import pytest

from tools.sweep.detectors import judge, line, table

MEASURED: dict[str, Any] = {
    **{"kept": 12, "missing": 0, "extra": 0, "margin": 1e-2, "unsaid": 0, "probabilities": 1e-6, "boxes": 1e-6},
    **{
        "outputs": 0.0,
        "noise": 0.0,
        "bit_equal": True,
        "row": 0.0,
        "not_found": [],
        "match": 1e-6,
        "scores": 1e-6,
        "strength": 0.3,
    },
    **{"errors": [1e-5, 2e-5], "shares": [1.0, 0.99], "torch_errors": [1e-5, 1e-5], "layers": ["a", "b"]},
    **{"form": "boxes and class probabilities in one table", "seconds": 1.0},
}


def test_what_agrees_passes() -> None:
    assert judge(dict(MEASURED))["passed"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"missing": 1}, "1 are missing"),
        ({"extra": 2}, "2 are others"),
        ({"unsaid": 3}, "status of 3 objects"),
        ({"probabilities": 2e-3}, "probabilities differ by 2.0e-03"),
        ({"boxes": None}, "boxes are not known"),
        ({"boxes": 2e-3}, "boxes differ"),
        ({"outputs": 1e-5}, "original outputs differ"),
        ({"row": 0.1}, "no candidate of the framework fits"),
        ({"not_found": ["b"]}, "holds the activations of b"),
        ({"match": 0.1}, "activations of the cut are off"),
        ({"scores": 2e-3}, "scores differ"),
        ({"strength": 0.0}, "the gradient vanishes"),
        ({"errors": [1e-5, 2e-3]}, "gradient differs: 1.0e-05, 2.0e-03"),
        ({"errors": [1e-5, float("nan")]}, "gradient differs"),
    ],
)
def test_each_difference_fails(changed: dict[str, Any], said: str) -> None:
    found = judge({**MEASURED, **changed})
    assert not found["passed"]
    assert said in " ".join(found["failures"])


def test_a_close_decision_may_go_either_way() -> None:
    assert judge({**MEASURED, "missing": 1, "margin": 1e-6})["passed"]


def test_outputs_may_differ_as_without_fusion() -> None:
    assert judge({**MEASURED, "outputs": 4e-6, "noise": 2e-6})["passed"]
    assert not judge({**MEASURED, "outputs": 7e-6, "noise": 2e-6})["passed"]


def test_float32_autograd_of_the_framework_widens_the_limit() -> None:
    assert judge({**MEASURED, "errors": [2e-3], "torch_errors": [1e-3]})["passed"]
    assert not judge({**MEASURED, "errors": [4e-3], "torch_errors": [1e-3]})["passed"]
    assert not judge({**MEASURED, "errors": [2e-3], "torch_errors": None})["passed"]


def test_a_refusal_fails_and_says_why() -> None:
    found = judge({"refused": "No output holds candidates with boxes."})
    assert not found["passed"]
    assert "No output holds candidates" in line("transformers:detr", "dynamo", found)


def test_the_table_has_a_line_for_each_case() -> None:
    good, bad = judge(dict(MEASURED)), judge({**MEASURED, "errors": [0.5]})
    records = {
        ("ultralytics:yolov8n", "dynamo"): good,
        ("torchvision:fcos", "dynamo"): bad,
        ("torchvision:ssd300", "dynamo"): {"not_exported": "no"},
    }
    lines = table(records).splitlines()
    assert lines[2] == "| ultralytics:yolov8n | dynamo | 12 | 2 | 2e-05 | 0.9900 | bit-equal |"
    assert "**5e-01**" in lines[3]
    assert "not exported" in lines[4]
