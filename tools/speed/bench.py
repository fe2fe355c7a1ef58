"""Measure what explanations cost, against a plain prediction by ONNX Runtime and against other tools.

    python -m tools.speed.bench --models DIR --out bench.jsonl                 # everything; what is in the file is kept
    python -m tools.speed.bench --models DIR --out bench.jsonl --only resnet50 swin_t --batch 1 --layer auto --threads 2
    python -m tools.speed.bench --out bench.jsonl --table docs/benchmarks.md   # put the tables into the text

Each model, layer, batch size and number of threads has a process of its own, in which all contenders run in turns on
the same weights and images: plain ONNX Runtime, onnx_xcam (the map alone), eager torch, captum's LayerGradCam,
torchcam's XGradCAM, pytorch-grad-cam's XGradCAM and GradCAM, onnx-ad. Before anything is timed, every map is compared
with what its formula gives. Needs torch, torchvision and timm; the peers are optional. Models of torch have random
weights, and are kept in DIR as NAME.onnx and NAME.pt.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tools.common import command_line
from tools.common.folders import ROOT
from tools.common.records import append_record, read_records
from tools.speed.bench_cell import Cell
from tools.speed.bench_table import put_into

SAMPLES = ("sample_models/efficientnet_lite0.onnx", "sample_models/efficientnet_lite0_int8.onnx")
MODELS = (
    *("resnet50", "mobilenet_v2", "efficientnet_b0", "timm:efficientnet_lite0", "densenet121", "convnext_tiny"),
    *("regnet_y_1_6gf", "vgg16", "vit_b_16", "swin_t", *SAMPLES),
)
MOST_CLASSES_ELSEWHERE = 10
"""More are measured of one image and at the default layer only."""


def cells(options: argparse.Namespace) -> Iterator[Cell]:
    """What there is to measure, the cheap things first."""
    for layer in options.layer:
        for batch in options.batch:
            most = max(options.classes) if layer == "auto" and batch == 1 else MOST_CLASSES_ELSEWHERE
            for threads in options.threads:
                for model in options.only:
                    yield Cell(
                        model=model,
                        layer=layer,
                        batch=batch,
                        threads=threads,
                        folder=str(options.models),
                        classes=[count for count in options.classes if count <= most],
                        seconds=options.seconds,
                        peers=not options.no_peers,
                    )


def measure(cell: Cell) -> dict[str, Any] | None:
    """The record of a cell, measured in a process of its own; None, and a message, if that fails."""
    if not cell.model.endswith(".onnx") and cell.peers and not cell.path.with_suffix(".pt").is_file():
        print(f"preparing {cell.model}", flush=True)
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        _process("prepare", cell.model, cell.folder)
    begin = time.perf_counter()
    output = _process("cell", given=json.dumps(vars(cell)), threads=cell.threads)
    if output is None:
        return None
    record: dict[str, Any] = json.loads(output)
    took = time.perf_counter() - begin
    print(f"{' '.join(map(str, cell.key))}: {took:.0f} s", *_summary(record), sep="\n  ", flush=True)
    return record


def _process(*arguments: str, given: str = "", threads: int | None = None) -> str | None:
    command = [sys.executable, "-m", "tools.speed.bench_cell", *arguments]
    limits = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    # The package beside this file is what is measured, also where another one is installed.
    environment = {**os.environ, **limits, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, input=given, env=environment, stdout=subprocess.PIPE, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        print(f"failed: {' '.join(arguments)} {given}", file=sys.stderr, flush=True)
        return None
    return done.stdout


def _summary(record: dict[str, Any]) -> Iterator[str]:
    for figure in record["figures"]:
        ratio = figure["ratio"]
        yield (
            f"{figure['name']:26} {figure['classes']:5} {figure['ms']['median']:10.2f} ms "
            f"{ratio['median']:7.3f} ({ratio['low']:.3f} to {ratio['high']:.3f}) {figure['rounds']}"
        )
    for name, reason in record["skipped"].items():
        yield f"{name}: not timed: {reason}"
    if record["memory"]:
        plain, made = (found["model"] for found in record["memory"].values())
        yield f"memory: {plain / 1e6:.0f} -> {made / 1e6:.0f} MB, {made / plain:.3f}"


def load(path: Path) -> list[dict[str, Any]]:
    """The records of a file; of those with the same key the last one."""
    return list(read_records(path, lambda record: tuple(record["key"])).values())


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.speed.bench", __doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl", help="the records, a line each")
    parser.add_argument("--models", type=Path, metavar="DIR", help="where torch's models are kept")
    parser.add_argument("--only", nargs="+", default=MODELS, metavar="MODEL", help="torch's names, or ONNX files")
    parser.add_argument("--layer", nargs="+", choices=("auto", "middle"), default=["auto", "middle"])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--classes", type=int, nargs="+", default=[1, 10, 1000])
    parser.add_argument("--seconds", type=float, default=30, help="for each cell, about (default: 30)")
    parser.add_argument("--no-peers", action="store_true", help="onnx_xcam against the plain forward alone")
    parser.add_argument("--again", action="store_true", help="measure what is in the file, too")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="measure nothing; put the tables into this file")
    options = parser.parse_args()
    if options.models is None and options.table is None:
        parser.error("--models is needed to measure")
    return options


def main() -> int:
    """Measure what is not in the file yet, or write the tables; the exit status."""
    options = parse()
    if options.table:
        put_into(options.table, load(options.out))
        return 0
    options.models = options.models.resolve()
    there: Sequence[Any] = [] if options.again else [record["key"] for record in load(options.out)]
    failed = 0
    for cell in cells(options):
        if cell.key in there:
            continue
        record = measure(cell)
        if record is None:
            failed += 1
            continue
        append_record(options.out, record)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
