"""Export architectures with and without preprocessing before them, and compare what the graph proves of its pictures.

    python -m tools.sweep.proofs resnet18 timm:deit_tiny_patch16_224 transformers:vit keras:EfficientNetB0
    python -m tools.sweep.proofs --set torchvision transformers --wraps 2 --record records

A network alone proves nothing of the values that it takes; behind a normalisation it proves just those. A case is a
network with random parameters and statistics, an exporter (PyTorch's two, or tf2onnx and Keras' own), and what stands
before it: `wraps.py` has the kinds for PyTorch, and a network of Keras is built with and without its own preprocessing.
With --wraps, each network gets itself and so many of the kinds, in turn. What the exporter cannot export is listed and
is no case; a model that opens and proves something else than it should has failed.

Each network runs in a process of its own. Needs torch, torchvision and timm, transformers for its models, and
tensorflow-cpu, keras and tf2onnx for those of Keras.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from onnx_xcam.errors import XcamError
from onnx_xcam.surgery.analysis.ends import pictures
from onnx_xcam.surgery.analysis.input_values import InputValues, input_values
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.targets.analysis import analyse
from tools.common import command_line
from tools.common.records import append_record, read_records
from tools.sweep.zoo import SETS

RECORD = "proofs.jsonl"
LONGEST = 300
"""Seconds after which a network is given up."""
Export = tuple[str, str, InputValues | None, Callable[[Path], None]]
"""A kind of preprocessing, an exporter, what is proved then, and what writes the file."""


def exports(name: str, options: argparse.Namespace, turn: int) -> Iterator[Export]:
    """The cases of a network that the command line asks for, from the module that knows its framework."""
    kind = "keras" if name.startswith("keras:") else "torch"
    for export in importlib.import_module(f"tools.sweep.proofs_{kind}").exports(name, options.wraps, turn):
        if options.exporter in (export[1], "both"):
            yield export


def run_network(name: str, options: argparse.Namespace, turn: int, record: Path) -> None:
    """Run all cases of a network, in this process."""
    warnings.simplefilter("ignore")  # those of the exporters
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        for wrap, exporter, expected, export in exports(name, options, turn):
            try:
                export(path)
            except Exception as error:  # noqa: BLE001  # whatever an exporter raises
                status, found = "not exported", f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            else:
                status, found = _judged(path, expected)
            case = {"model": name, "wrap": wrap, "exporter": exporter, "status": status, "found": found}
            append_record(record, case)
            print(f"{status:12} {name} | {wrap} | {exporter} | {found} | expected {_told(expected)}", flush=True)
            path.unlink(missing_ok=True)


def _judged(path: Path, expected: InputValues | None) -> tuple[str, str]:
    """Whether a file proves what it should, and what it proves."""
    try:
        graph = analyse(Source(str(path))).plain_graph
    except XcamError as error:
        return "refused", " ".join(str(error).split())[:120]
    start = time.perf_counter()
    found = input_values(graph, pictures(graph)[0])
    taken = time.perf_counter() - start
    wrong = "missed" if found is None else "false alarm"
    status = "right" if found == expected else wrong
    return status, f"{_told(found)} ({taken * 1000:.0f} ms)"


def _told(values: InputValues | None) -> str:
    return "nothing" if values is None else f"{values.low:g}..{values.high:g} {values.order or ''}".strip()


def networks(chosen: str) -> Sequence[str]:
    """The names of a set: those of the sweep, or every classifier of transformers, or of Keras."""
    if chosen in ("transformers", "keras"):
        module = importlib.import_module("tools.sweep.proofs_names")
        return tuple(module.NAMES[chosen]())
    return SETS[chosen]


def run(options: argparse.Namespace, record: Path) -> None:
    """Run each network in a process of its own; those of PyTorch share what has been imported."""
    done = set(read_records(record, lambda one: one["model"]))
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tools.sweep.proofs_torch"])
    fresh = multiprocessing.get_context("spawn")
    for turn, name in enumerate(options.models):
        if name in done:
            continue
        context = fresh if name.startswith("keras:") else server
        process = context.Process(target=run_network, args=(name, options, turn, record))
        process.start()
        process.join(LONGEST)
        if process.is_alive():
            process.kill()
            process.join()
        if process.exitcode != 0:
            print(f"FAIL {name}: the process ended with status {process.exitcode}", flush=True)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.sweep.proofs", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="torchvision's name, or SOURCE:NAME")
    sets = ("torchvision", "timm", "aside", "others", "transformers", "keras")
    parser.add_argument("--set", nargs="+", choices=sets, default=[], help="networks by the dozen")
    parser.add_argument("--wraps", type=int, metavar="N", help="of the kinds of preprocessing for each (default: all)")
    parser.add_argument("--exporter", choices=("torchscript", "dynamo", "tf2onnx", "keras", "both"), default="both")
    parser.add_argument("--record", type=Path, metavar="DIR", help=f"keep the results in DIR/{RECORD} and resume")
    options = parser.parse_args()
    options.models += [name for chosen in options.set for name in networks(chosen) if name not in options.models]
    if not options.models:
        parser.error("name a model, or a --set")
    return options


def main() -> int:
    """Run it all; exit status 1 if a case failed."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        record = (options.record or Path(scratch)) / RECORD
        record.parent.mkdir(parents=True, exist_ok=True)
        run(options, record)
        lines = record.read_text(encoding="utf-8").splitlines() if record.is_file() else []
    cases = [json.loads(line) for line in lines]
    counts = Counter(case["status"] for case in cases)
    print(f"{len({case['model'] for case in cases})} networks: {dict(counts)}")
    return 1 if counts["missed"] or counts["false alarm"] else 0


if __name__ == "__main__":
    sys.exit(main())
