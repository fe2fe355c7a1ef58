"""The README is true: its commands and its Python run, in order, and say what it says they say."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```$", README, re.M | re.S)
SETUP = "python3 -m venv"  # these two are run by .ci/run, in full


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sample models, where the README's files may be written."""
    path = tmp_path_factory.mktemp("readme")
    (path / "sample_models").symlink_to(ROOT / "sample_models", target_is_directory=True)
    return path


def run(command: list[str], folder: Path) -> str:
    programs = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": programs + os.pathsep + os.environ["PATH"], "PYTHONWARNINGS": "error"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_commands(folder: Path) -> None:
    commands = [line for kind, text in BLOCKS if kind == "sh" and SETUP not in text for line in text.splitlines()]
    names = ["inspect", "explain", "explain", "instrument", "compare", "evaluate", "check", "bench"]
    assert [shlex.split(command)[1] for command in commands] == names
    outputs = [run(shlex.split(command), folder) for command in commands]
    assert "*  /_swish_1/Clip_output_0" in outputs[0]
    assert len(outputs[1].splitlines()) == 6
    assert "comparison.png" in outputs[4] and (folder / "comparison.png").stat().st_size > 10_000
    assert "Sensitivity error" in outputs[5] and (folder / "evaluation.html").stat().st_size > 10_000
    assert "FAIL" not in outputs[6] and "all checks passed" in outputs[6]
    assert "batch  classes" in outputs[7]
    made = {path.name for path in (folder / "explanations").iterdir()}
    assert {"results.jsonl", "cat.282.png", "coffee.967.png", "rocket.657.png", "cat.285.png", "cat.npz"} <= made
    assert (folder / "explained.onnx").stat().st_size > (ROOT / "sample_models/efficientnet_lite0.onnx").stat().st_size


def test_python(folder: Path) -> None:
    """In order: what one block writes, the next one reads."""
    blocks = [text for kind, text in BLOCKS if kind == "python"]
    assert len(blocks) == 2
    outputs = [run([sys.executable, "-c", text], folder) for text in blocks]
    assert outputs[0].startswith("['espresso', ")
    assert (folder / "coffee.png").stat().st_size > 10_000
    assert outputs[1].split() == ["(1,", "1,", "7,", "7)", "(1,", "2,", "7,", "7)"]


def test_the_line_that_explain_prints(folder: Path) -> None:
    (setup,) = [text for kind, text in BLOCKS if kind == "sh" and SETUP in text and "onnx-xcam explain" in text]
    command = shlex.split(setup.split("&&")[-1].replace(".venv/bin/", ""))
    (line,) = run([*command, "-o", "first"], folder).splitlines()
    promised = re.search(r"It prints `(.*?)`", README)
    assert promised and line.startswith(promised.group(1))


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
