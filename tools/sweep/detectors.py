"""Export detectors by name, instrument them, and compare objects and gradients with PyTorch's.

    python -m tools.sweep.detectors ultralytics:yolov8n torchvision:fcos transformers:rtdetr
    python -m tools.sweep.detectors --set ultralytics transformers --record records --table table.md

A case is a detector with random parameters and statistics, and an exporter. Of it are compared

- the objects: those of non-maximum suppression by hand over the candidates of the framework's own modules, with their
  classes, probabilities and boxes. A file that picks rows itself is compared with its own outputs. Objects may differ
  only where a probability or an overlap is next to its threshold (CLOSE);
- the score and its gradient at every member of the cut, for three cells: the best object, one of another level, and a
  candidate that is none. The gradient is float64 autograd's, every member of the cut a leaf. The tensor of a member in
  PyTorch is found by its values. It passes within TOLERANCE of the largest gradient over the cut, or within FACTOR
  times what PyTorch's own float32 autograd is off by;
- the outputs that the file had before: unchanged, but for what fusing operators in another way changes.

What the exporter cannot export is listed and is no case. Each detector runs in a process of its own; with --record,
what was done is not done again. Needs torch and onnxruntime, and for its detectors ultralytics, torchvision or
transformers. Ultralytics' names are those of its yaml files; behind `@rows` they pick rows themselves (end to end), and
behind `@nms` by non-maximum suppression.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from onnx_xcam.errors import XcamError
from tools.common import command_line
from tools.common.processes import run_each
from tools.common.records import append_record, read_records

os.environ["ONNX_XCAM_STRICT"] = "1"  # a bug of the package fails with its traceback
RECORD = "detectors.jsonl"
EXPORTERS = ("torchscript", "dynamo")
TOLERANCE, FACTOR, MATCH = 1e-3, 3.0, 1e-3
ROW = 1e-2
"""A row is of a candidate whose probability and box, relative to the picture, are off by less: scores then show it."""
UNCHANGED = 1e-6
"""Original outputs may differ by this, relative to the largest, or by FACTOR times what fusing operators changes."""
CLOSE = 1e-4
"""A decision within this of its threshold may go either way in float32."""
SETS: dict[str, tuple[str, ...]] = {
    "ultralytics": tuple(
        f"ultralytics:{name}"
        for name in (
            *("yolov5n", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolov6n", "yolov8n-p2"),
            *("yolov8n-seg", "yolo11n-seg", "yolo26n-seg", "yolov8n-pose", "yolo11n-pose", "yolo26n-pose"),
            *("yolov8n-obb", "yolo11n-obb", "yolo26n-obb", "yolov10n@rows", "yolo26n@rows", "yolo26n-seg@rows"),
            *("yolo26n-pose@rows", "yolov8n@nms", "yolov8n-seg@nms", "yolov8n-pose@nms"),
        )
    ),
    "torchvision": tuple(
        f"torchvision:{name}" for name in ("fcos", "retinanet", "ssdlite", "ssd300", "fasterrcnn", "maskrcnn")
    ),
    "transformers": tuple(
        f"transformers:{name}"
        for name in ("detr", "conditional", "yolos", "rtdetr", "rtdetrv2", "dfine", "rtdetr@rows", "dfine@rows")
    ),
}
Case = tuple[str, str]


def run_detector(name: str, options: argparse.Namespace, record: Path) -> None:
    """Run the cases of one detector that have not passed yet, in this process."""
    done = read_records(record, _case_of)
    missing = [exporter for exporter in _exporters(options) if not _is_done(done.get((name, exporter), {}))]
    if not missing:
        return
    import torch

    from tools.sweep.detector_comparison import Comparison

    torch.set_num_threads(options.threads)
    library, _, rest = name.partition(":")
    detector = importlib.import_module(f"tools.sweep.detectors_{library}").Case(rest, options.seed)
    for exporter in missing:
        result: dict[str, Any] = {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                if exporter not in detector.exporters:
                    raise NotImplementedError("this exporter does not write such rows")
                comparison = Comparison(detector, exporter, Path(folder), options.threads)
            except Exception as error:  # noqa: BLE001  # whatever an exporter raises
                result = {"not_exported": f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"}
            else:
                result = judge(_measured(comparison))
        append_record(record, {"model": name, "exporter": exporter, **result})
        print(line(name, exporter, result), flush=True)


def _measured(comparison: Any) -> dict[str, Any]:
    """What was measured, or how the package refused the model."""
    try:
        measured: dict[str, Any] = comparison.measure()
    except XcamError as error:
        return {"refused": " ".join(str(error).split())}
    return measured


def _exporters(options: argparse.Namespace) -> tuple[str, ...]:
    return EXPORTERS if options.exporter == "both" else (options.exporter,)


def _case_of(record: dict[str, Any]) -> Case:
    return record["model"], record["exporter"]


def _is_done(record: dict[str, Any]) -> bool:
    return bool(record.get("passed")) or "not_exported" in record


# --- verdict ----------------------------------------------------------------------------------------------------------


def judge(found: dict[str, Any]) -> dict[str, Any]:
    """Add the verdict to what was measured: "passed", and "failures" that say what is wrong."""
    if "refused" in found:
        return {"passed": False, "failures": [f"refused: {found['refused']}"], **found}
    failures = []
    if (found["missing"] or found["extra"]) and found["margin"] > CLOSE:
        failures.append(f"of {found['kept']} objects {found['missing']} are missing, {found['extra']} are others")
    if found["unsaid"]:
        failures.append(f"the status of {found['unsaid']} objects that are not there is not 4")
    limit = max([TOLERANCE, *[FACTOR * error for error in found.get("torch_errors") or ()]])
    if found["probabilities"] > limit:
        failures.append(f"probabilities differ by {found['probabilities']:.1e}")
    if found["boxes"] is None:
        failures.append("the boxes are not known")
    elif found["boxes"] > limit:
        failures.append(f"boxes differ by {found['boxes']:.1e} of the picture's side")
    if not found["outputs"] <= max(UNCHANGED, FACTOR * found["noise"]):
        failures.append(f"original outputs differ by {found['outputs']:.1e}")
    return {"passed": not (failures := failures + _of_gradients(found, limit)), "failures": failures, **found}


def _of_gradients(found: dict[str, Any], limit: float) -> list[str]:
    """What is wrong with scores and gradients."""
    if found["row"] > ROW:
        return [f"no candidate of the framework fits a row: the closest is off by {found['row']:.1e}"]
    if found["not_found"]:
        return [f"no tensor of the framework holds the activations of {', '.join(found['not_found'])}"]
    failures = []
    if found["match"] > MATCH:
        failures.append(f"the activations of the cut are off by {found['match']:.1e}")
    if found["scores"] > limit:
        failures.append(f"scores differ by {found['scores']:.1e}")
    if not found["strength"] > 0:
        failures.append("the gradient vanishes")
    if not all(error <= limit for error in found["errors"]):
        failures.append(f"gradient differs: {', '.join(f'{error:.1e}' for error in found['errors'])}")
    return failures


def line(name: str, exporter: str, found: dict[str, Any]) -> str:
    """A case in a line, and what is wrong with it in further ones."""
    if "not_exported" in found:
        return f"---  {name} {exporter}: not exported: {found['not_exported']}"
    head = f"{'ok  ' if found['passed'] else 'FAIL'} {name} {exporter}"
    if "errors" in found:
        single = max(found["torch_errors"]) if found["torch_errors"] else float("nan")
        outputs = "bit-equal" if found["bit_equal"] else f"off by {found['outputs']:.1e}"
        head += (
            f": {found['kept']} objects, gradient off by {max(found['errors']):.1e} (float32 autograd {single:.1e}),"
            f" {min(found['shares']):.4f} within 1e-4, at {len(found['layers'])} layers, outputs {outputs},"
            f" surgery {found['seconds']:.1f} s; {found['form']}"
        )
    return "\n     ".join([head, *found["failures"]])


def table(records: dict[Case, dict[str, Any]]) -> str:
    """The records as a Markdown table, a line for each case."""
    columns = ("detector", "exporter", "objects", "members of the cut", "gradient", "share within 1e-4", "outputs")
    rows = [columns, ("---",) * len(columns)]
    for (name, exporter), found in records.items():
        if "not_exported" in found:
            rows.append((name, exporter, "not exported", "", "", "", ""))
        elif "errors" not in found:
            rows.append((name, exporter, "**failed**", "", "", "", ""))
        else:
            error = f"{max(found['errors']):.0e}"
            rows.append(
                (
                    *(name, exporter, str(found["kept"]), str(len(found["layers"]))),
                    *(error if found["passed"] else f"**{error}**", f"{min(found['shares']):.4f}"),
                    "bit-equal" if found["bit_equal"] else f"{found['outputs']:.0e}",
                )
            )
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


# --- command line -----------------------------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.sweep.detectors", __doc__)
    parser.add_argument("models", nargs="*", metavar="LIBRARY:NAME", help="a detector")
    parser.add_argument("--set", nargs="+", choices=tuple(SETS), default=[], help="detectors by the dozen")
    parser.add_argument("--exporter", choices=(*EXPORTERS, "both"), default="both")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch and ONNX Runtime (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="detectors at the same time (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the parameters and the picture")
    parser.add_argument("--record", type=Path, metavar="DIR", help=f"keep the results in DIR/{RECORD} and resume")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the results as a Markdown table")
    options = parser.parse_args()
    options.models += [name for chosen in options.set for name in SETS[chosen] if name not in options.models]
    if not options.models:
        parser.error("name a detector, or a --set")
    if wrong := [name for name in options.models if name.partition(":")[0] not in SETS]:
        parser.error(f"{wrong[0]} is of none of {', '.join(SETS)}")
    return options


def main() -> None:
    """Run it all; exit status 1 if a case failed."""
    options = parse()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.record or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if len(options.models) == 1:
            run_detector(options.models[0], options, folder / RECORD)
        else:
            shared = [f"--{key}={getattr(options, key)}" for key in ("exporter", "threads", "seed")]
            run_each("tools.sweep.detectors", options.models, [*shared, "--record", str(folder)], options.jobs)
        records = read_records(folder / RECORD, _case_of)
    wanted = [(name, exporter) for name in options.models for exporter in _exporters(options)]
    failed = [case for case in wanted if not _is_done(records.get(case, {}))]
    if len(options.models) > 1:
        print(f"{len(wanted) - len(failed)} of {len(wanted)} cases passed or are not exported")
    if options.table:
        options.table.write_text(table(records), encoding="utf-8", newline="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
