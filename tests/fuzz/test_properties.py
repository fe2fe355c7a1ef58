"""Whatever a file holds: a result or one sentence. hypothesis chooses what is done to the files, and shrinks a finding.

The larger search runs each case in a process of its own: `python -m tools.fuzz`.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KINDS = ("models", "images", "preprocess", "labels")
SURGERY = ("inspect", "instrument", "layers")
"""Of a model only these run here: ONNX Runtime would run what it states, however much that is."""

pytest.importorskip("resource", reason="the fuzzer limits memory by POSIX's means")


def tried(kind: str, random: Random, number: int, folder: Path) -> None:
    from helpers.fuzz import worker

    suffix, data = worker.make(kind, random)
    path = folder / f"case{suffix}"
    path.write_bytes(data)
    for name, run in worker.runs_of(kind, path, data, number):
        if kind != "models" or name in SURGERY:
            worker.ended(run)


def search(kind: str, examples: int, folder: Path) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(random=st.randoms(use_true_random=False), number=st.integers(0, 139))
    def every_case_ends_well(random: Random, number: int) -> None:
        tried(kind, random, number, folder)

    every_case_ends_well()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_or_a_sentence(kind, tmp_path):
    search(kind, 40, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_a_result_or_a_sentence_in_many_cases(kind, tmp_path):
    search(kind, 600, tmp_path)


def test_a_planted_fault_is_found(tmp_path, monkeypatch):
    from onnx_xcam import labels

    def wrong(*arguments, **options):
        raise KeyError("planted")

    monkeypatch.setattr(labels, "load_labels", wrong)
    with pytest.raises(KeyError, match="planted"):
        search("labels", 10, tmp_path)
