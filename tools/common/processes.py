"""Each model has a process of its own: torch's memory goes with it, and a crash costs one model."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor


def run_each(program: str, names: Iterable[str], options: Sequence[str], jobs: int) -> None:
    """Run `python -m PROGRAM OPTIONS... -- NAME` for each name; how one of them ended is in what it wrote."""

    def run(name: str) -> None:
        status = subprocess.run([sys.executable, "-m", program, *options, "--", name], check=False).returncode
        if status not in (0, 1):  # 1: a case failed, which is in the records
            print(f"FAIL {name}: the process ended with status {status}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, names))
