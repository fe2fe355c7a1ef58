"""Measure what reading and preparing 8-bit JPEGs costs, against another checkout.

Each checkout runs in a process of its own, with one thread. Both take turns, photo by photo, and the time of the
processor counts, so that a machine that is busy with other things slows both down; what is compared is the ratio of
each pair of times, of which the median counts.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper

from tools.common import command_line

SIZES = ((480, 640), (1080, 1920), (3000, 4000))
RULES = {
    "crop, Pillow": {"preset": "imagenet"},
    "letterbox, OpenCV": {"preset": "yolo"},
}
_WORKER = """
import json, sys, time
import cv2
from onnx_xcam import Explainer
cv2.setNumThreads(1)
explainer = Explainer(sys.argv[1], preprocess=json.loads(sys.argv[2]))
for line in sys.stdin:
    path, times = json.loads(line)
    begin = time.process_time()
    for _ in range(times):
        explainer.prepare(path)
    print((time.process_time() - begin) / times, flush=True)
"""


def main() -> None:
    """Print a table: the time of this checkout in ms, and its ratio to that of the other, for each size and rule."""
    parser = command_line.parser("tools.speed.reading", __doc__)
    parser.add_argument("--before", type=Path, required=True, help="the folder of the other checkout")
    parser.add_argument("--rounds", type=int, default=60, help="how many times each photo is read by each checkout")
    options = parser.parse_args()
    here = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as name:
        model, photos = _model(Path(name)), _photos(Path(name))
        print("| photo | rule | ms | ratio (quartiles) |\n|---|---|---|---|")
        for rule, preprocess in RULES.items():
            workers = [_worker(folder, model, preprocess) for folder in (options.before, here)]
            for photo in photos:
                before, after = _times(workers, photo, options.rounds)
                ratios = [new / old for old, new in zip(before, after, strict=True)]
                low, middle, high = statistics.quantiles(ratios, n=4)
                print(
                    f"| {photo.stem} | {rule} | {1000 * statistics.median(after):.2f} | "
                    f"{middle:.3f} ({low:.3f} to {high:.3f}) |",
                    flush=True,
                )
            for worker in workers:
                worker.communicate()


def _times(workers: Sequence[subprocess.Popen[str]], photo: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds that each of two workers takes for a photo, in turns; the first turn is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    each = max(1, 3_000_000 // photo.stat().st_size // 8)  # a turn takes some ms at least
    for turn in range(rounds + 1):
        for n in (0, 1) if turn % 2 else (1, 0):
            worker = workers[n]
            assert worker.stdin is not None
            assert worker.stdout is not None
            print(json.dumps([str(photo), each]), file=worker.stdin, flush=True)
            times[n].append(float(worker.stdout.readline()))
    return times[0][1:], times[1][1:]


def _worker(checkout: Path, model: Path, preprocess: dict[str, Any]) -> subprocess.Popen[str]:
    """Start a process that prepares photos with the package of a checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, str(model), json.dumps(preprocess)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=checkout,
    )


def _photos(folder: Path) -> list[Path]:
    """Write JPEGs with smooth parts and noise, as photos have."""
    paths = []
    for height, width in SIZES:
        random = np.random.default_rng(height)
        small = random.integers(0, 256, (height // 40, width // 40, 3)).astype(np.uint8)
        photo = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        noisy = np.clip(photo + random.normal(0, 4, photo.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{width}x{height}.jpg")
        if not cv2.imwrite(str(paths[-1]), noisy):
            raise OSError(f"{paths[-1]} cannot be written")
    return paths


def _model(folder: Path) -> Path:
    """Write a small classifier of pictures of 224 x 224."""
    weights = np.random.default_rng(0).normal(0, 1, (5, 3, 32, 32)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "w"], ["conv"], strides=[32, 32]),
            helper.make_node("Relu", ["conv"], ["relu"]),
            helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["logits"]),
        ],
        "classifier",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 5])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


if __name__ == "__main__":
    main()
