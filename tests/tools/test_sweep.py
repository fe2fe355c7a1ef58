"""The sweep's own judgement: what counts as passed, and how a layer is found by its values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tools.common import matching
from tools.common.records import append_record, read_records
from tools.sweep import verdict

GOOD: dict[str, Any] = {
    "errors": [1e-6, 2e-6],
    "torch_errors": [1e-6, 1e-6],
    "rests": [1e-6, 2e-6],
    "ties": [0, 0],
    "match": 1e-6,
    "torch_match": 1e-6,
    "strength": 0.1,
    "outputs": 0.0,
    "scores": 1e-6,
    "torch_scores": 1e-6,
}
NEAR_TIE = {"errors": [0.2, 1e-6], "torch_errors": [1e-6, 1e-6], "rests": [5e-5, 1e-6]}


@pytest.mark.parametrize(
    "change", [{}, NEAR_TIE, {"errors": [9e-4, 0.0]}, {"errors": [5e-3, 0], "torch_errors": [2e-3, 0]}]
)
def test_passed(change):
    assert verdict.judge({**GOOD, **change})["passed"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"errors": [2e-3, 0.0], "rests": [2e-3, 0.0]}, "gradient differs: image 0"),
        ({"errors": [0.0, float("nan")], "rests": [0.0, float("nan")]}, "gradient differs: image 1"),
        ({**NEAR_TIE, "rests": [2e-4, 0.0]}, "gradient differs"),
        ({"match": 1e-3}, "matches the layer"),
        ({"strength": 0.0}, "vanishes"),
        ({"strength": float("nan")}, "vanishes"),
        ({"outputs": 2e-6}, "original outputs differ"),
        ({"scores": 1e-3}, "scores differ"),
        ({"failures": ["the map is constant"]}, "the map is constant"),
        ({"check_said": ["check: FAIL"]}, "check: FAIL"),
    ],
)
def test_failed(change, said):
    record = verdict.judge({**GOOD, **change})
    assert not record["passed"]
    assert said in " ".join(record["failures"])


def test_a_model_without_a_result_is_no_pass():
    assert not verdict.judge({"failures": ["LayerError: none"]})["passed"]
    case = verdict.Case("m", "torchscript", "static", "default")
    assert verdict.summary([case], {}) == 1
    assert verdict.summary([case], {case: verdict.judge({"not_exported": "why"})}) == 0
    assert "not exported" in verdict.table([case], {case: {"not_exported": "why"}})
    assert "not run" in verdict.table([case], {})


def test_records_resume(tmp_path):
    case = {"model": "m", "exporter": "e", "batch": "b", "layer": "l"}
    for passed in (False, True):
        append_record(tmp_path / "r.jsonl", {**case, "passed": passed})
    (record,) = read_records(tmp_path / "r.jsonl", verdict.case_of).values()
    assert verdict.is_done(record), "the latest counts"
    assert not verdict.is_done({})


def test_a_layer_is_found_by_its_values():
    random = np.random.default_rng(0)
    layer = random.normal(size=(2, 6, 5)).astype(np.float32)  # [N,T,C]
    as_map = layer.astype(np.float64).reshape(2, 2, 3, 5).transpose(3, 0, 1, 2)  # [C,N,H,W]
    others = [random.normal(size=(2, 6, 5)), layer[..., :4], np.sort(layer, axis=None).reshape(2, 6, 5)]
    (found,) = matching.matches([*others, as_map], layer)
    assert (found.index, found.difference) == (3, 0.0)
    np.testing.assert_array_equal(found.to_layer(as_map), layer)
    np.testing.assert_array_equal(found.from_layer(layer, as_map.shape), as_map)
    assert matching.matches(others[:2], layer) == []
