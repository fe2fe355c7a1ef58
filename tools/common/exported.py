"""Models to measure are ONNX files, or models of torch that are exported first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple


class Model(NamedTuple):
    """A model to measure: what to call it, and its file."""

    name: str
    path: Path


def find_model(wanted: str, folder: Path, exporter: str) -> Model:
    """An ONNX file as it is; a model of torch exported into `folder`, with random weights and symbolic batch."""
    if wanted.endswith(".onnx"):
        return Model(Path(wanted).stem, Path(wanted))
    path = folder / f"{wanted}.onnx"
    # A process of its own: torch's threads and memory must not be around while something is measured.
    command = [sys.executable, "-m", "tools.common.torch_models", wanted, str(path), exporter]
    subprocess.run(command, check=True)
    return Model(wanted, path)
