"""What a process takes: its memory, and that of an Explainer against a plain ONNX Runtime session."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

KINDS = ("plain session", "Explainer")


def memory(field: str) -> int:
    """A line of Linux's account of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"/proc/self/status has no {field}")


def measure_memory(options: argparse.Namespace, _: Path) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Load the model and run it once on one image, each in a fresh process."""
    rows: list[Sequence[str]] = []
    for path in options.models:
        for kind in KINDS:
            command = [sys.executable, __file__, kind, path, str(options.threads)]
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
        from _sessions import session

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
