"""Measure an evaluation of many photos: resident memory over the run, and the part of the time in ONNX Runtime.

    python -m tools.speed.photos FOLDER --count 1000 --sides 400 1100 --more FOLDER_OF_PHOTOS
    python -m tools.speed.evaluation sample_models/efficientnet_lite0.onnx FOLDER -- --metrics axioms,insertion,deletion

What follows `--` are options of `onnx-xcam evaluate`. "In ONNX Runtime" counts every moment in which at least one
`Session.run` is under way, as a part of the time from the first record to the last; `sum` counts runs that go on at the
same time each. Timings are from one machine; none of them is a test. Reads Linux's /proc.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.common import command_line
from tools.common.memory import memory


class Clock:
    """How long at least one run was under way, and the sum over all runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self.any = self.sum = 0.0

    def watch(self, run: Any) -> Any:
        """`run` with its time counted."""

        def watched(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            with self._lock:
                self._running += 1
                self._since = began if self._running == 1 else self._since
            try:
                return run(*args, **kwargs)
            finally:
                now = time.perf_counter()
                with self._lock:
                    self._running -= 1
                    self.sum += now - began
                    self.any += now - self._since if not self._running else 0.0

        return watched


def measure(options: argparse.Namespace) -> None:
    """Run the command in this process, with every run watched."""
    import onnxruntime

    from onnx_xcam import cli
    from onnx_xcam.evaluation.evaluator import Evaluator

    clock = Clock()
    onnxruntime.InferenceSession.run = clock.watch(onnxruntime.InferenceSession.run)
    plain = Evaluator.stream
    began = [0.0, 0.0, 0.0]

    def stream(self: Evaluator, *args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        began[:] = time.perf_counter(), clock.any, clock.sum
        for n, record in enumerate(plain(self, *args, **kwargs), 1):
            yield record
            if n in (1, 10, 20, 50) or n % 100 == 0:
                resident, peak = memory("VmRSS") / 1e6, memory("VmHWM") / 1e6
                print(f"{n} photos: resident {resident:.0f} MB, peak {peak:.0f} MB", file=sys.stderr, flush=True)
        now = time.perf_counter(), clock.any, clock.sum
        total, running, added = (end - start for end, start in zip(now, began, strict=True))
        print(f"{n} photos in {total:.1f} s, {total / n * 1000:.0f} ms each", file=sys.stderr)
        print(f"in ONNX Runtime {running / total:.1%} of the time, sum {added / total:.2f}", file=sys.stderr)

    Evaluator.stream = stream  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as out:
        sys.argv = ["onnx-xcam", "evaluate", str(options.model), str(options.folder), "-o", out, "-q", *options.options]
        cli.main()


def main() -> None:
    """Read the command line, and measure."""
    parser = command_line.parser("tools.speed.evaluation", __doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("folder", type=Path, help="of photos")
    parser.add_argument("options", nargs="*", help="of `onnx-xcam evaluate`")
    measure(parser.parse_args())


if __name__ == "__main__":
    main()
