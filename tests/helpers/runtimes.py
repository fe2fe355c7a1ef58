"""Runtimes that a test needs: without one it is skipped with a word, or fails where XCAM_REQUIRE_RUNTIMES is set."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest


def missing(what: str) -> None:
    """End the test: as skipped, or as failed in CI."""
    if os.environ.get("XCAM_REQUIRE_RUNTIMES") == "1":
        pytest.fail(f"XCAM_REQUIRE_RUNTIMES=1, and there is no {what}")
    pytest.skip(f"there is no {what}; see examples/README.md")


def need_module(name: str) -> Path:
    """The folder of an importable package."""
    found = importlib.util.find_spec(name)
    if found is None or found.origin is None:
        missing(f"Python package '{name}'")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent


def need_program(name: str) -> str:
    """The path of a program."""
    path = shutil.which(name)
    if path is None:
        missing(f"program '{name}'")
    assert path is not None
    return path


def need_folder(variable: str, holding: str) -> Path:
    """The folder that an environment variable names, which holds a file of this name."""
    folder = Path(os.environ.get(variable) or "nowhere")
    if not (folder / holding).is_file():
        missing(f"folder in {variable} with {holding}")
    return folder
