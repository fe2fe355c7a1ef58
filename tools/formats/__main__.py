"""Put architectures into production formats, instrument the files, and compare outputs and gradients.

    python -m tools.formats resnet50 swin_t --record records --table table.md

A model of torchvision's gets random parameters, is exported with a symbolic batch, and goes through the tools that
prepare models for production (`recipes.py`): ONNX Runtime's optimiser, onnxslim, onnxsim, conversion to float16, and
ONNX Runtime's quantiser, calibrated on eight images. Two of these are explained, each for its top class and another
one, at the default layer and at the bottleneck nearest to the middle of the float graph. A case passes if

- the layer is the one whose values are most like those of the float file's layer;
- the original outputs are what they were: float32 to 1e-6 of the largest, float16 to 1e-3, quantised no further off
  than the file's own are at another level of ONNX Runtime's optimisation, with the same top class;
- `xcam_gradients` is right. Float formats: as the sweep judges, against float64 autograd on the same weights. float16:
  the cosine to it is at least 0.999, or to float64 autograd through the float16 file, within 1e-3, as for quantised
  formats. These: within 1e-4 of float64 autograd through the same quantised parameters with straight-through
  estimators (`fake_quant.py`; of optimised QDQ files, through the QDQ file), from ONNX Runtime's own activations of
  the layer on, once what the backward pass reads has the values there that it had in ONNX Runtime, so that no rounding
  is decided another way. How far it is off before that is shown, too;
- the map is finite and not constant.

What the tools cannot make and what ONNX Runtime cannot run is listed with the reason and counts as neither. Each model
runs in a process of its own; with --record, what passed is not done again. Needs torch, torchvision, onnxruntime,
onnxslim and onnxsim.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from onnx_xcam.benchmark.machine import machine
from tools.common import command_line
from tools.common.processes import run_each
from tools.common.records import append_record, read_records
from tools.common.tables import in_markdown
from tools.formats.recipes import FORMATS

MODELS = ("resnet50", "mobilenet_v2", "efficientnet_b0", "vit_b_32", "swin_t", "convnext_tiny")
LAYERS = ("default", "middle")
RECORD = "formats.jsonl"
EXACT, TOLERANCE, FACTOR = 1e-4, 1e-3, 3.0
"""These are the sweep's."""
COSINE = 0.999
"""The cosine that the gradient of a float16 model reaches."""
ALIKE = 0.2
"""A layer is another one if its values correlate less with those of the float model's."""
OUTPUTS = {"float": 1e-6, "float16": 1e-3}

Case = tuple[str, str, str]
"""Model, format and layer."""


def case_of(record: dict[str, Any]) -> Case:
    """The case that a record is of."""
    return record["model"], record["format"], record["layer"]


def is_done(record: dict[str, Any]) -> bool:
    """Whether a case need not be run again."""
    return bool(record.get("passed")) or "not_made" in record or "not_run" in record


# --- the verdict ------------------------------------------------------------------------------------------------------


def judge(kind: str, result: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict to what was measured: "passed", and "failures" that say what is wrong."""
    if "not_made" in result or "not_run" in result:
        return result
    failures = list(result.pop("failures", []))
    if "outputs" in result:
        failures += _layer_failures(result) + _output_failures(kind, result) + _gradient_failures(kind, result)
    return {"passed": not failures, "failures": failures, **result}


def _layer_failures(result: dict[str, Any]) -> list[str]:
    if result["same"] >= max(result["closest_same"] - 0.01, ALIKE):
        return []
    said = f"the layer '{result['name']}' is not the float model's: correlation {result['same']:.2f}"
    return [f"{said}, that of '{result['closest']}' is {result['closest_same']:.2f}"]


def _output_failures(kind: str, result: dict[str, Any]) -> list[str]:
    allowed = max(OUTPUTS.get(kind, 0.0), 0.0 if kind == "float" else result["levels"])
    failures = [] if result["outputs"] <= allowed else [f"original outputs differ by {result['outputs']:.1e}"]
    return failures + (["the top class is another"] if result["top_moved"] else [])


def _gradient_failures(kind: str, result: dict[str, Any]) -> list[str]:
    if kind == "float16":
        best = max(result["cosine"], result["own_cosine"])
        good = best >= COSINE or max(result["rests"]) <= TOLERANCE
        return [] if good else [f"cosine {best:.4f}, and {max(result['rests']):.1e} is unexplained"]
    if "errors" not in result:
        return []
    if kind == "float":
        pairs = zip(result["errors"], result["torch_errors"], result["rests"], strict=True)
        good = all(ours <= max(TOLERANCE, FACTOR * theirs) or rest <= EXACT for ours, theirs, rest in pairs)
    else:
        good = all(rest <= EXACT for rest in result["rests"])
    said = f"gradient differs by {max(result['errors']):.1e}, and {max(result['rests']):.1e} is unexplained"
    return [] if good else [said]


def line(case: Case, result: dict[str, Any]) -> str:
    """A case in a line."""
    name = " ".join(case)
    for key, said in (("not_made", "not made"), ("not_run", "does not run")):
        if key in result:
            return f"---  {name}: {said}: {result[key]}"
    head = f"{'ok  ' if result['passed'] else 'FAIL'} {name}"
    if "outputs" in result:
        head += f": '{result['name']}' {result['layout']} {result['shape']}, gradient {gradient_cell(result)}"
        head += f", outputs {outputs_cell(result)}"
    return "\n     ".join([head, *result["failures"]])


# --- the table --------------------------------------------------------------------------------------------------------

LEGEND = """\
Each cell: the largest difference of `xcam_gradients` from float64 autograd, relative to the image's largest, worst of
two images and two classes; of float16 files the smallest cosine. → what is left once rounding is decided as in ONNX
Runtime (near-ties of float files; all that the backward pass reads of the others). Behind the comma how far the
original outputs move, "=" for not a bit; in parentheses how far they are from themselves at ONNX Runtime's other levels
of optimisation, if that is anything. Bold: failed.
"""


def gradient_cell(result: dict[str, Any]) -> str:
    """A gradient's figures."""
    if "cosine" in result:
        best = max(result["cosine"], result["own_cosine"])
        return f"cos {_below(best)}" + ("" if best >= COSINE else f" → {max(result['rests']):.0e}")
    if "errors" not in result:
        return "not compared"
    explained = max(result["errors"]) > EXACT and max(result["rests"]) < max(result["errors"])
    return f"{max(result['errors']):.0e}" + (f" → {max(result['rests']):.0e}" if explained else "")


def _below(cosine: float) -> str:
    """A cosine rounded down, so that 1.0000 is none that it is not."""
    return f"{int(cosine * 1e4) / 1e4:.4f}"


def outputs_cell(result: dict[str, Any]) -> str:
    """How far the outputs move."""
    if result["bit_equal"]:
        return "="
    return f"{result['outputs']:.0e}" + (f" ({result['levels']:.0e})" if result["levels"] else "")


def table(models: Sequence[str], layer: str, records: dict[Case, dict[str, Any]]) -> str:
    """The records of one layer as a Markdown table, and below it what does not run."""
    rows, reasons = [], {}
    for name, made in FORMATS.items():
        cells = []
        for model in models:
            result = records.get((model, name, layer))
            why = None if result is None else result.get("not_made") or result.get("not_run")
            if why is not None:
                reasons.setdefault(why, len(reasons) + 1)
            cells.append(_cell(result, reasons.get(why or "")))
        rows.append([made.title, *cells])
    text = in_markdown(["format", *models], rows)
    return text + "".join(f"\n[{number}] {why}\n" for why, number in reasons.items())


def _cell(result: dict[str, Any] | None, reason: int | None) -> str:
    if result is None:
        return "no result"
    if reason is not None:
        return f"{'not made' if 'not_made' in result else 'does not run'} [{reason}]"
    if "outputs" not in result:
        return "**failed**"
    text = f"{gradient_cell(result)}, {outputs_cell(result)}"
    return text if result["passed"] else f"**{text}**"


MASKS = """\
How far torch.fake_quantize_per_tensor_affine's own mask leads away from ours, which knows only the integer: largest
difference, and smallest cosine. It passes the gradient where a value was rounded to an end of the range, not clipped.
"""


def masks(models: Sequence[str], layer: str, records: dict[Case, dict[str, Any]]) -> str:
    """How far torch's own mask for fake quantisation leads away from ours, as a Markdown table."""
    rows = []
    for name, made in FORMATS.items():
        found = [records.get((model, name, layer), {}) for model in models]
        if any("torch_mask" in result for result in found):
            cells = [f"{max(r['torch_mask']):.0e}, {r['torch_cosine']:.2f}" if "torch_mask" in r else "" for r in found]
            rows.append([made.title, *cells])
    return in_markdown(["format", *models], rows)


def report(options: argparse.Namespace, records: dict[Case, dict[str, Any]]) -> str:
    """All tables in Markdown."""
    measured = [records[case] for case in _wanted(options) if "passed" in records.get(case, {})]
    passed = sum(record["passed"] for record in measured)
    head = f"{passed} of {len(measured)} cases pass, exported by the {options.exporter} exporter; {machine()}.\n"
    parts = [head, LEGEND]
    for layer in LAYERS:
        parts += [f"### {layer.capitalize()} layer\n", table(options.models, layer, records)]
    for layer in LAYERS:
        parts += [f"### torch's mask, {layer} layer\n", *([MASKS] if layer == LAYERS[0] else [])]
        parts.append(masks(options.models, layer, records))
    return "\n".join(parts)


# --- models -----------------------------------------------------------------------------------------------------------


def _wanted(options: argparse.Namespace) -> list[Case]:
    return [(model, name, layer) for model in options.models for name in options.formats for layer in LAYERS]


def run_model(options: argparse.Namespace, record: Path) -> None:
    """Run the cases of one model that have not passed yet, in this process."""
    done = read_records(record, case_of)
    missing = [case for case in _wanted(options) if not is_done(done.get(case, {}))]
    if not missing:
        return
    from tools.formats.case import FormatCase

    (name,) = options.models
    folder = options.files / f"{name}_{options.exporter}"
    folder.mkdir(parents=True, exist_ok=True)
    compared = FormatCase(name, options, folder)
    for case in missing:
        _, made, layer = case
        try:
            measured = compared.measure_format(made, layer)
        except Exception as error:  # noqa: BLE001  a failure of this case, which is recorded; the others go on
            measured = {"failures": [f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"]}
        result = judge(FORMATS[made].kind, measured)
        append_record(record, {"model": name, "format": made, "layer": layer, **result})
        print(line(case, result), flush=True)


def run_models(options: argparse.Namespace, folder: Path) -> None:
    """Run each model in a process of its own, some of them at the same time."""
    shared = [f"--{key}={getattr(options, key)}" for key in ("exporter", "threads", "seed", "files")]
    shared += ["--record", str(folder), "--formats", *options.formats]

    run_each("tools.formats", options.models, shared, options.jobs)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.formats", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", default=list(MODELS), help="torchvision's names")
    parser.add_argument("--formats", nargs="+", choices=tuple(FORMATS), default=list(FORMATS))
    parser.add_argument("--exporter", choices=("torchscript", "dynamo"), default="dynamo")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and ONNX Runtime (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="models at the same time (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters and images")
    parser.add_argument("--files", type=Path, metavar="DIR", help="keep the models in DIR")
    parser.add_argument("--record", type=Path, metavar="DIR", help=f"keep the results in DIR/{RECORD} and resume")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the results as Markdown tables")
    return parser.parse_args()


def main() -> None:
    """Run it all; exit status 1 if a case failed."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        options.files = options.files or Path(scratch)
        folder = options.record or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if len(options.models) == 1:
            run_model(options, folder / RECORD)
        else:
            run_models(options, folder)
        records = read_records(folder / RECORD, case_of)
    failed = [case for case in _wanted(options) if not is_done(records.get(case, {}))]
    if options.table:
        options.table.write_text(report(options, records), encoding="utf-8", newline="\n")
    for case in failed:
        why = "; ".join(records[case]["failures"]) if case in records else "no result"
        print(f"  failed: {' '.join(case)}: {why}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
