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
PREFIX = ".venv/bin/"  # of commands before the environment is active


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
    shown = [text for kind, text in BLOCKS if kind == "sh" and SETUP not in text and not text.startswith(PREFIX)]
    commands = [line for text in shown for line in text.splitlines()]
    names = ["inspect", "explain", "explain", "explain", "instrument", "compare", "evaluate", "check", "bench"]
    assert [shlex.split(command)[1] for command in commands] == names
    outputs = [run(shlex.split(command), folder) for command in commands]
    assert "*  /_swish_1/Clip_output_0" in outputs[0]
    assert len(outputs[1].splitlines()) == 6
    assert outputs[3].startswith("shapes.png  square with a blue dot, not square with a red dot  p 0.")
    assert "comparison.png" in outputs[5] and (folder / "comparison.png").stat().st_size > 10_000
    assert "Sensitivity error" in outputs[6] and (folder / "evaluation.html").stat().st_size > 10_000
    assert "FAIL" not in outputs[7] and "all checks passed" in outputs[7]
    assert "batch  classes" in outputs[8]
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


def test_the_lines_that_explain_prints_for_a_detector(folder: Path) -> None:
    """The best object's line is promised, and a line and a picture of each of five and of all."""
    (text,) = [text for kind, text in BLOCKS if kind == "sh" and text.startswith(PREFIX)]
    lines = run([*shlex.split(text.removeprefix(PREFIX)), "-o", "objects"], folder).splitlines()
    promised = re.search(r"It prints `(page.*?)`", README)
    assert promised and lines[0].startswith(promised.group(1))
    assert len(lines) == 6 and len(list((folder / "objects").glob("page.*.png"))) == 6


@pytest.mark.slow
def test_the_page_on_detectors(folder: Path) -> None:
    """What docs/detectors.md shows of the sample models runs, in order."""
    page = (ROOT / "docs/detectors.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.M | re.S)
    commands = [line for kind, text in blocks if kind == "sh" for line in text.splitlines() if "sample_models/" in line]
    outputs = [run(shlex.split(command), folder) for command in commands]
    assert "cut     " in outputs[0] and ", not square with a red dot" in outputs[2]
    assert [line.split("  ->")[0] for line in outputs[1].splitlines()[4:]] == ["shapes.png  all 4 objects", "page"]
    (program,) = [text for kind, text in blocks if kind == "python"]
    said = "print(explanation.caption(), explanation.picture(k=None).shape[2], explanation.objects.shape)"
    assert run([sys.executable, "-c", program + said], folder).endswith("3 (1, 1)\n")


def test_links() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target
