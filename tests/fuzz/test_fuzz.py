"""What the fuzzer has found stays mended, and a short run of it finds nothing new."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())

pytest.importorskip("resource", reason="the fuzzer limits memory by POSIX's means")


def test_the_corpus_is_small():
    sizes = [path.stat().st_size for path in CORPUS]
    assert len(sizes) > 30
    assert max(sizes) < 50_000 and sum(sizes) < 1_000_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(path, capsys):
    """A result or an error that says what is wrong, by every entry point: what nothing foresaw is raised.

    Each file once ended in the exception of its name; today it is used, or its verification says why not.
    """
    from helpers.fuzz import worker

    kind = path.name.partition("-")[0]
    for number in range(3):  # of which the ways to call depend
        assert worker.run_case(kind, path, path.read_bytes(), 1 + 2 * number, lambda stage: None)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "count"), [("models", 700), ("images", 500), ("preprocess", 700), ("labels", 700)])
def test_a_short_run_finds_nothing(kind, count, tmp_path):
    command = [sys.executable, "-m", "tools.fuzz", "--kind", kind, "--count", str(count)]
    command += ["--seed", "2024", "--seconds", "60", "--out", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
