"""Measure what an Explainer takes of memory and of time to load, against a plain ONNX Runtime session.

Each is measured in a fresh process, `python -m tools.speed.explainer_memory KIND MODEL THREADS`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from tools.common.memory import memory
from tools.common.tables import Row

KINDS = ("plain session", "Explainer")


def measure_memory(options: argparse.Namespace, _: Path) -> tuple[Row, list[Row]]:
    """Load the model and run it once on one image, each in a fresh process."""
    rows: list[Row] = []
    for path in options.models:
        for kind in KINDS:
            command = [sys.executable, "-m", "tools.speed.explainer_memory", kind, path, str(options.threads)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found = json.loads(output)
            sizes = [f"{found[key] / 1e6:.0f} MB" for key in ("peak", "after")]
            rows.append([Path(path).stem, kind, *sizes, f"{found['load']:.2f} s", f"{found['run']:.2f} s"])
            print(*rows[-1], flush=True)
    return ["model", "", "peak memory", "memory after the run", "loading", "one image"], rows


def main() -> None:
    """Load and run in this process, and print the figures as JSON."""
    import numpy as np

    kind, path, threads = sys.argv[1:]
    begin = time.perf_counter()
    if kind == "Explainer":
        from onnx_xcam import Explainer

        explainer = Explainer(path, preprocess="imagenet", threads=int(threads), providers="cpu")
        loaded = time.perf_counter()
        explainer.explain(np.zeros((224, 224, 3), np.uint8))
    else:
        from tools.common.sessions import session

        plain = session(path, int(threads))
        loaded = time.perf_counter()
        feed = plain.get_inputs()[0]
        shape = [1 if isinstance(dim, str) else dim for dim in feed.shape]
        plain.run(None, {feed.name: np.zeros(shape, np.float32)})
    done = time.perf_counter()
    figures = {"peak": memory("VmHWM"), "after": memory("VmRSS"), "load": loaded - begin, "run": done - loaded}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
