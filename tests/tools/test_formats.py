"""The judgement of tools/formats/: what counts as passed."""

from __future__ import annotations

from typing import Any

import pytest

from tools.formats import __main__ as formats

COMMON: dict[str, Any] = {
    **{"name": "a", "same": 0.9, "closest": "a", "closest_same": 0.9},
    **{"outputs": 0.0, "bit_equal": True, "levels": 0.0, "top_moved": False},
}
GOOD: dict[str, dict[str, Any]] = {
    "float": {**COMMON, "errors": [1e-6], "torch_errors": [1e-6], "rests": [1e-6]},
    "float16": {**COMMON, "cosine": 0.9995, "own_cosine": 0.9999, "rests": [1e-6]},
    "static": {**COMMON, "errors": [1e-3], "rests": [1e-6], "torch_mask": [0.5], "torch_cosine": 0.9},
    "dynamic": {**COMMON, "errors": [1e-3], "rests": [1e-6]},
}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        *[(kind, {}) for kind in GOOD],
        ("float", {"outputs": 1e-6, "bit_equal": False}),
        ("float", {"errors": [0.1], "rests": [9e-5]}),
        ("float16", {"outputs": 9e-4, "cosine": 0.9, "own_cosine": 0.99, "rests": [9e-4]}),
        ("static", {"outputs": 0.1, "levels": 0.2, "errors": [0.3], "rests": [9e-5]}),
        ("dynamic", {"errors": [0.3], "rests": [9e-5]}),
    ],
)
def test_passed(kind, change):
    found = formats.judge(kind, {**GOOD[kind], **change})
    assert found["passed"], found["failures"]


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("float", {"errors": [2e-3], "rests": [2e-4]}, "gradient differs"),
        ("float", {"errors": [float("nan")], "rests": [float("nan")]}, "gradient differs"),
        ("float", {"outputs": 2e-6, "levels": 1.0}, "outputs differ"),
        ("float16", {"cosine": 0.99, "own_cosine": 0.99, "rests": [2e-3]}, "cosine"),
        ("float16", {"outputs": 2e-3, "levels": 1e-3}, "outputs differ"),
        ("static", {"errors": [2e-3], "rests": [2e-4]}, "gradient differs"),
        ("dynamic", {"errors": [2e-3], "rests": [2e-4]}, "gradient differs"),
        ("static", {"errors": [float("nan")], "rests": [float("nan")]}, "gradient differs"),
        ("static", {"outputs": 0.2, "levels": 0.1}, "outputs differ"),
        ("static", {"top_moved": True}, "top class"),
        ("static", {"same": 0.8}, "is not the float model's"),
        ("static", {"same": 0.1, "closest_same": 0.1}, "is not the float model's"),
        ("dynamic", {"failures": ["the map is constant"]}, "the map is constant"),
    ],
)
def test_failed(kind, change, said):
    found = formats.judge(kind, {**GOOD[kind], **change})
    assert not found["passed"]
    assert any(said in failure for failure in found["failures"])


@pytest.mark.parametrize("key", ["not_made", "not_run"])
def test_what_does_not_run_has_not_passed(key):
    result = formats.judge("static", {key: "NOT_IMPLEMENTED"})
    assert "passed" not in result
    text = formats.table(["m"], "default", {("m", "qdq", "default"): result})
    assert "[1] NOT_IMPLEMENTED" in text
