"""What the fuzzer has found stays mended, and a short run of it finds nothing new."""

from __future__ import annotations

import json
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


def test_every_dialect_has_a_seed():
    """In files and in metadata, so that the fuzzer comes to every reader."""
    from helpers.fuzz.producer_files import FILES, METADATA
    from onnx_xcam.producers.dialect import DescriptionFile
    from onnx_xcam.producers.dialects.registry import DIALECTS, METADATA_DIALECTS

    files = []
    for name, data in FILES:
        text = data if isinstance(data, str) else json.dumps(data)
        readable = Path(name).suffix in (".json", ".yaml", ".yml")
        files.append(DescriptionFile(Path(name), name, text, data if readable else None))
    silent = [dialect.name for dialect in DIALECTS if not any(dialect.recognises(file) for file in files)]
    assert not set(silent) - {"Hugging Face"}, "whose preprocessor_config.json are seeds of their own"
    for read in METADATA_DIALECTS:
        assert any(read({key: str(value) for key, value in entries.items()}) for entries in METADATA)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"),
    [("models", 700), ("images", 500), ("arrays", 700), ("preprocess", 700), ("names", 200), ("labels", 700)],
)
def test_a_short_run_finds_nothing(kind, count, tmp_path):
    command = [sys.executable, "-m", "tools.fuzz", "--kind", kind, "--count", str(count)]
    command += ["--seed", "2024", "--seconds", "60", "--out", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
