"""Measure how fast the command line starts, beside Python alone."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from onnx_xcam.benchmark.timing import in_turns
from tools.common.tables import Row


def measure_cli(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """Time `onnx-xcam --help` in fresh processes."""
    commands = {
        "`onnx-xcam --help`": [sys.executable, "-m", "onnx_xcam.cli", "--help"],
        "Python alone": [sys.executable, "-c", ""],
    }
    runs = {
        name: lambda command=command: subprocess.run(command, check=True, capture_output=True)
        for name, command in commands.items()
    }
    timings = in_turns(runs, 0, least=options.repeats)
    rows = []
    for name in runs:
        seconds = timings.seconds(name)
        rows.append([name, f"{timings.spread(name).median:.3f} s", f"{min(seconds):.3f} to {max(seconds):.3f}"])
        print(*rows[-1], flush=True)
    return ["command", "time (median)", "time (range)"], rows
