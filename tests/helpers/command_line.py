"""The command line in a process of its own: its environment, photos, and how to wait for what it writes."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from helpers import ROOT
from helpers.tiny_models import LABELS

KNOWN = {"preprocess": {"scale": "1/255"}, "labels": LABELS}
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
RANDOM = np.random.default_rng(3)
PHOTOS = {f"{name}.png": RANDOM.integers(0, 256, (20 + i, 30, 3), np.uint8) for i, name in enumerate(["a", "b é", "c"])}
needs_posix = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and terminals")


GATE = str(ROOT / "tests/helpers/gate.py")
"""The command line with a gate before some photos."""


def wait_for_lines(process: subprocess.Popen[str], path: Path, lines: int) -> None:
    """Wait until a program has written so many lines, however long that takes."""
    while not path.exists() or path.read_bytes().count(b"\n") < lines:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
