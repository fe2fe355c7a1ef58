"""Compare the gradients of instrumented models with PyTorch's autograd, on whole models with random parameters.

    python tools/compare_with_autograd.py resnet18 mobilenet_v2 --exporter both --batch both --layer both
    python tools/compare_with_autograd.py --all --record records --table figures.md

A case is a model, an exporter, a static or symbolic batch, and a layer: the default one, or the bottleneck that lies
nearest to the middle of the graph. Its instrumented model runs in ONNX Runtime on several images, two classes for each
(its top class and another), and `xcam_gradients` is compared with float64 autograd on the same weights: the largest
difference of an image relative to its largest gradient. It may be TOLERANCE, or FACTOR times what PyTorch's own
float32 autograd is off by on that image: ReLU and MaxPool near-ties flip. Which ones flip is chance, so a larger
difference passes as well if it is explained to TOLERANCE: float64 autograd agrees once it starts from the activations
that ONNX Runtime had, and a few near-ties behind them, within rounding error, are decided the other way. The layer's
tensor in PyTorch is found by its values.

Needs torch, torchvision and onnxruntime, for efficientnet_lite0 also efficientnet-lite-pytorch. Several models run in a
process each. With --record, a case that passed is not run again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TOLERANCE, FACTOR = 1e-4, 3.0
VALUES_MATCH = 1e-4
"""A layer is found if PyTorch's values differ by at most this, relative to the largest, or by FACTOR times what its own
float32 values are off by."""
VANISHED = 1e-7
"""A gradient times its activations, largest values, that is smaller than this share of the largest logit."""
RECORD = "compare_with_autograd.jsonl"
BOTH = {
    "exporter": ("torchscript", "dynamo"),
    "batch": ("static", "dynamic"),
    "layer": ("default", "middle"),
}


@dataclass(frozen=True)
class Case:
    """One comparison."""

    model: str
    exporter: str
    batch: str
    layer: str


def cases(options: argparse.Namespace, model: str) -> list[Case]:
    """The cases of one model that the command line asks for, layers last: an export serves them all."""
    return [
        Case(model, exporter, batch, layer)
        for exporter in _chosen(options, "exporter")
        for batch in _chosen(options, "batch")
        for layer in _chosen(options, "layer")
    ]


def _chosen(options: argparse.Namespace, name: str) -> tuple[str, ...]:
    value = getattr(options, name)
    return BOTH[name] if value == "both" else (value,)


# --- records ----------------------------------------------------------------------------------------------------------


def read_records(path: Path) -> dict[Case, dict[str, Any]]:
    """The latest record of each case."""
    if not path.is_file():
        return {}
    records = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {Case(**{key: record[key] for key in asdict(Case("", "", "", ""))}): record for record in records}


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a line to the records."""
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps(record) + "\n")


# --- one model --------------------------------------------------------------------------------------------------------


def run_model(name: str, options: argparse.Namespace, record: Path) -> None:
    """Run the cases of one model that have not passed yet, in this process."""
    done = read_records(record)
    missing = [case for case in cases(options, name) if not done.get(case, {}).get("passed")]
    if not missing:
        return
    import torch
    from _compare_case import Comparison

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(name, options, Path(folder))
        for case in missing:
            result = judge(comparison.measure(case.exporter, case.batch, case.layer))
            append_record(record, {**asdict(case), **result})
            print(line(case, result), flush=True)


def judge(result: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict to what was measured: "passed", and "failures" that say what is wrong."""
    failures = list(result.pop("failures", []))
    if "errors" in result:
        bad = [
            f"image {n}: {ours:.1e} (PyTorch float32 {theirs:.1e}, near-ties leave {rest:.1e})"
            for n, (ours, theirs, rest) in enumerate(
                zip(result["errors"], result["torch_errors"], result["rests"], strict=True)
            )
            if not (ours <= max(TOLERANCE, FACTOR * theirs) or rest <= TOLERANCE)
        ]
        failures += ["gradient differs: " + ", ".join(bad)] if bad else []
        if result["match"] > max(VALUES_MATCH, FACTOR * result["torch_match"]):
            failures.append(f"no tensor of PyTorch matches the layer: the closest is off by {result['match']:.1e}")
        if not result["strength"] > VANISHED:
            failures.append(f"the gradient vanishes: {result['strength']:.1e}")
        if not result["outputs"] <= 1e-6:
            failures.append(f"original outputs differ by {result['outputs']:.1e}")
        if not result["scores"] <= VALUES_MATCH:
            failures.append(f"scores differ from PyTorch's by {result['scores']:.1e}")
    return {"passed": not failures, "failures": failures, **result}


def line(case: Case, result: dict[str, Any]) -> str:
    """A case in a line."""
    head = f"{'ok  ' if result['passed'] else 'FAIL'} {case.model} {case.exporter} {case.batch} {case.layer}"
    if "errors" in result:
        outputs = "bit-equal" if result["bit_equal"] else f"off by {result['outputs']:.1e}"
        head += (
            f": {max(result['errors']):.1e} (PyTorch float32 {max(result['torch_errors']):.1e},"
            f" {max(result['rests']):.1e} with {sum(result['ties'])} near-ties decided alike)"
            f" at '{result['name']}' {result['op']} {result['shape']}, outputs {outputs},"
            f" surgery {result['seconds']:.2f} s, tail {result['tail'] / 1000:.1f} kB"
        )
    return "\n     ".join([head, *result["failures"]])


# --- several models ---------------------------------------------------------------------------------------------------


def run_models(names: Iterable[str], options: argparse.Namespace, folder: Path) -> None:
    """Run each model in a process of its own."""
    shared = [f"--{key}={getattr(options, key)}" for key in ("exporter", "batch", "layer", "images", "threads", "seed")]
    for name in names:
        command = [sys.executable, __file__, name, *shared, "--record", str(folder), f"--slim={options.slim}"]
        # The exit status adds nothing: a case that left no record counts as failed.
        subprocess.run(command, check=False)


def summary(wanted: list[Case], records: dict[Case, dict[str, Any]]) -> int:
    """Print what failed and how far off the rest is; the number of failures."""
    failed = [case for case in wanted if not records.get(case, {}).get("passed")]
    measured = [records[case] for case in wanted if "errors" in records.get(case, {})]
    print(f"\n{len(wanted) - len(failed)} of {len(wanted)} cases passed")
    if measured:
        equal = sum(record["bit_equal"] for record in measured)
        print(f"original outputs bit-equal in {equal} of {len(measured)} cases")
    for case in failed:
        why = "; ".join(records[case]["failures"]) if case in records else "no result"
        print(f"  failed: {case.model} {case.exporter} {case.batch} {case.layer}: {why}")
    return len(failed)


LEGEND = """\
Largest difference of `xcam_gradients` from PyTorch's float64 autograd, relative to the image's largest gradient, worst
of {images} images and two classes; in parentheses what PyTorch's own float32 autograd is off by. → what is left, where
the difference is above 1e-4, once float64 autograd starts from the layer's activations that ONNX Runtime had, with
[so many] near-ties of ReLU, Clip or MaxPool behind it, in all images together, decided as there.
{passed} of {count} cases pass. Bold: failed.

"""


def table(wanted: list[Case], records: dict[Case, dict[str, Any]]) -> str:
    """The records as a Markdown table, a line for each model and exporter."""
    columns = list(dict.fromkeys((case.layer, case.batch) for case in wanted))
    head = ["model", "exporter", *(f"{layer} layer, {batch}" for layer, batch in columns), "original outputs"]
    rows = [head, ["---"] * len(head)]
    for model, exporter in dict.fromkeys((case.model, case.exporter) for case in wanted):
        line_of = [records.get(Case(model, exporter, batch, layer)) for layer, batch in columns]
        rows.append([model, exporter, *(_cell(record) for record in line_of), _outputs_cell(line_of)])
    found = [records[case] for case in wanted if case in records]
    images = max((len(record.get("errors", ())) for record in found), default=0)
    legend = LEGEND.format(images=images, passed=sum(record["passed"] for record in found), count=len(wanted))
    return legend + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _cell(record: dict[str, Any] | None) -> str:
    if record is None or "errors" not in record:
        return "not run" if record is None else "**failed**"
    text = f"{max(record['errors']):.0e} ({max(record['torch_errors']):.0e})"
    if max(record["errors"]) > TOLERANCE:
        text += f" → {max(record['rests']):.0e} [{sum(record['ties'])}]"
    return text if record["passed"] else f"**{text}**"


def _outputs_cell(records: Iterable[dict[str, Any] | None]) -> str:
    measured = [record for record in records if record and "errors" in record]
    worst = max((record["outputs"] for record in measured), default=None)
    if worst is None:
        return "not run"
    return "bit-equal" if all(record["bit_equal"] for record in measured) else f"{worst:.0e}"


# --- command line -----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="torchvision's name, or efficientnet_lite0")
    parser.add_argument("--all", action="store_true", help="the twenty models of the published figures")
    for name, values in BOTH.items():
        parser.add_argument(f"--{name}", choices=(*values, "both"), default="both")
    parser.add_argument("--images", type=int, default=8, help="how many (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch and ONNX Runtime (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters and images")
    parser.add_argument("--slim", choices=("no", "yes"), default="no", help="pass the export through onnxslim first")
    parser.add_argument("--record", type=Path, metavar="DIR", help=f"keep the results in DIR/{RECORD} and resume")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the results as a Markdown table")
    options = parser.parse_args()
    if not options.models and not options.all:
        parser.error("name a model, or use --all")
    return options


def names(options: argparse.Namespace) -> Iterator[str]:
    """The models asked for."""
    yield from options.models
    if options.all:
        from _torch_models import MODELS

        yield from (name for name in MODELS if name not in options.models)


def main() -> None:
    """Run it all; exit status 1 if a case failed."""
    options = parse()
    models = list(names(options))
    wanted = [case for model in models for case in cases(options, model)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.record or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if len(models) == 1:
            run_model(models[0], options, folder / RECORD)
        else:
            run_models(models, options, folder)
        records = read_records(folder / RECORD)
    failures = sum(not records.get(case, {}).get("passed") for case in wanted)
    if len(models) > 1 or options.record is None:
        summary(wanted, records)
    if options.table:
        options.table.write_text(table(wanted, records), encoding="utf-8", newline="\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
