"""Measure an evaluation of many photos: resident memory over the run, and the part of the time in ONNX Runtime.

    python tools/evaluate.py photos FOLDER --count 1000 --more FOLDER_OF_PHOTOS
    python tools/evaluate.py baselines sample_models/efficientnet_lite0.onnx FOLDER
    python tools/evaluate.py measure sample_models/efficientnet_lite0.onnx FOLDER -- --metrics axioms,insertion,deletion

`photos` cuts and varies the sample photos and others into as many of 0.2 to 1 megapixels. `baselines` gives the
faithfulness, in the top classes, of maps that know nothing of the model: a random one, and the picture's middle.

What follows `--` are options of `onnx-xcam evaluate`. "In ONNX Runtime" counts every moment in which at least one
`Session.run` is under way, as a part of the time from the first record to the last; `sum` counts runs that go on at the
same time each. Timings are from one machine; none of them is a test. Reads Linux's /proc.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _process import memory

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".jpg", ".jpeg", ".png"}


def make_photos(options: argparse.Namespace) -> None:
    """JPEGs of mixed sizes: parts of the photos, some of them mirrored, brighter or darker."""
    import cv2

    options.folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    folders = [ROOT / "sample_models" / "photos", *options.more]
    paths = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES]
    for n in range(options.count):
        original = cv2.imread(str(paths[n % len(paths)]))
        rows, columns = (int(side * random.uniform(0.6, 1)) for side in original.shape[:2])
        top, left = (
            random.integers(0, side - part + 1) for side, part in zip(original.shape[:2], (rows, columns), strict=True)
        )
        part = original[top : top + rows, left : left + columns]
        width, height = random.integers(400, 1100, 2).tolist()
        part = cv2.resize(part[:, :: random.choice((-1, 1))], (width, height), interpolation=cv2.INTER_CUBIC)
        varied = np.clip(part * random.uniform(0.8, 1.2), 0, 255).astype(np.uint8)
        cv2.imwrite(str(options.folder / f"{n:05}.jpg"), varied, [cv2.IMWRITE_JPEG_QUALITY, 90])
    print(f"{options.count} photos out of {len(paths)}")


class Clock:
    """How long at least one run was under way, and the sum over all runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._since = 0.0
        self.any = self.sum = 0.0

    def watch(self, run: Any) -> Any:
        """The same function, watched."""

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


def baselines(options: argparse.Namespace) -> None:
    """Means and standard deviations of two maps that know nothing."""
    from onnx_xcam.evaluation.perturbation import METRICS, faithfulness
    from onnx_xcam.explainer.recorder import Recorder
    from onnx_xcam.images.place import Placement

    recorder = Recorder(options.model, methods=["eigen-cam"])
    found = []
    for n, path in enumerate(sorted(path for path in options.folder.iterdir() if path.suffix in SUFFIXES)):
        picture = recorder.prepare(path)
        ids = recorder.record(picture, recorder.choose(None, 1)).classes.tolist()
        height, width = size = picture.placement.input
        noise = np.random.default_rng(n).normal(size=(7, 7)).astype(np.float32)
        y, x = np.mgrid[:height, :width]
        middle = -np.hypot(y / height - 0.5, x / width - 0.5)
        maps = [Placement(size, size, size).place(noise), np.float32(middle - middle.min())]
        predict = functools.partial(recorder.confidences, class_ids=ids)
        results = faithfulness(predict, picture.item, np.stack(maps), [0, 0], channels_last=recorder.channels_last)
        found.append([[one.metrics[name] for name in METRICS] for one in results])
    table = np.array(found, np.float64)
    for index, name in enumerate(("random", "middle")):
        pairs = zip(METRICS, table[:, index].mean(0), table[:, index].std(0, ddof=1), strict=True)
        print(name, *(f"{metric} {mean:.3f} ± {spread:.3f}" for metric, mean, spread in pairs), sep="  ")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    photos = commands.add_parser("photos")
    photos.add_argument("folder", type=Path)
    photos.add_argument("--count", type=int, default=1000)
    photos.add_argument("--more", type=Path, action="append", default=[])
    photos.set_defaults(run=make_photos)
    nothing = commands.add_parser("baselines")
    nothing.add_argument("model", type=Path)
    nothing.add_argument("folder", type=Path)
    nothing.set_defaults(run=baselines)
    measured = commands.add_parser("measure")
    measured.add_argument("model", type=Path)
    measured.add_argument("folder", type=Path)
    measured.add_argument("options", nargs="*")
    measured.set_defaults(run=measure)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
