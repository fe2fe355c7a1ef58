"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from helpers.models import images
from onnx_xcam.cli import app
from onnx_xcam.surgery.ir.diagnostics import STRICT

os.environ[STRICT] = "1"  # an exception that nothing foresaw fails the test, in processes that tests start as well


@pytest.fixture(scope="session")
def batch() -> np.ndarray:
    """Two images, float32 `[2,3,12,12]`."""
    return images(2)


@pytest.fixture
def run(capfd):
    """Run the app; gives exit status, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            app([str(argument) for argument in arguments], prog_name="onnx-xcam")
        out, err = capfd.readouterr()
        return int(ended.value.code or 0), out, err

    return run
