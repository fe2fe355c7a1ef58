"""Find out which runtimes run explained models, and how close their maps are to ONNX Runtime's.

    python -m tools.runtimes resnet50 vit_b_16 --record records.json --table table.md
    python -m tools.runtimes model.onnx --runtimes openvino opencv
    python -m tools.runtimes --python onnx2torch=.venv-torch/bin/python --command "Node=node my_case.mjs"

A model is an ONNX file, or the name of a torchvision model, exported with random weights; the sample models, of which
one is a detector, are always there. Every run is a process of its own, so that a crash is a cell of the table as well.
Runtimes that are not installed are left out, and said so. `--command` adds a program in any language; see case.py for
what it reads and writes. A record lets a later call go on, add runtimes and models, and write the table again.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

import onnx_xcam
from onnx_xcam.benchmark.machine import machine
from tools.common import command_line
from tools.common.exported import Model, find_model
from tools.common.folders import PHOTOS, ROOT, SAMPLE_MODELS
from tools.common.layers import middle_layer
from tools.common.tables import in_markdown
from tools.runtimes import detector
from tools.runtimes.adapters import RUNTIMES

SAMPLES = ("efficientnet_lite0", "efficientnet_lite0_int8")
CLASSES = [281, 7]
ENOUGH = 1e-3
"""Of the largest value of a map; what is further from ONNX Runtime's map is marked in the table, unless ONNX Runtime is
as far from itself (a third of it) with its optimisations off."""
MUCH = 1e-4
"""Of the largest logit."""
ITSELF = RUNTIMES["unoptimised"].title
Record = Mapping[str, Any]
"""What one run gave: `{"outputs": {name: difference}}` or `{"error": sentence}`."""
JOBS = ("original", "default", "middle")
FEATURES = ("default value", "overridden", "required", "fixed", "batch", "heatmap", "gradients")
HEADS = ("optional, untouched", "optional, fed", "required", "fixed", "batch 3", "heat map, status", "A and G")


@dataclass(frozen=True)
class Program:
    """A row: what is started with `MODEL.onnx FOLDER`."""

    title: str
    command: tuple[str, ...]
    form: str


# --- what is run ------------------------------------------------------------------------------------------------------


def instrumented(path: Path, form: str, **options: Any) -> bytes:
    """The model with its map, in the class input form asked for."""
    classes = CLASSES if form == "fixed" else None
    options.setdefault("emit", ("map",))
    return onnx_xcam.instrument(path, class_input=form, classes=classes, **options).SerializeToString()


def photos(count: int) -> np.ndarray:
    """The sample photos as float32 `[count, 3, 224, 224]`, normalised as ImageNet models want it."""
    pictures = []
    for path in sorted(PHOTOS.iterdir())[:count]:
        rgb = cv2.cvtColor(cv2.resize(cv2.imread(str(path)), (224, 224)), cv2.COLOR_BGR2RGB)
        pictures.append((rgb / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225])
    return np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32)


def feeds_of(model: Path, count: int, classes: Sequence[Sequence[int]] | None) -> dict[str, np.ndarray]:
    """What the file is fed, in the order of its inputs."""
    graph = onnx.load(model, load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    feeds: dict[str, np.ndarray] = {}
    for value in graph.input:
        if value.name == "xcam_class":
            if classes is not None:
                feeds[value.name] = np.array(classes, np.int64)
        elif value.name not in weights:
            feeds[value.name] = photos(count)
    return feeds


def family_jobs(model: Model, form: str) -> dict[str, tuple[bytes | Path, int, Any]]:
    """What is run of every model: by name (model, number of images, classes to feed)."""
    layer = middle_layer(model.path)
    fed = [CLASSES] if form == "required" else None
    jobs: dict[str, tuple[bytes | Path, int, Any]] = {"original": (model.path, 1, None)}
    jobs["default"] = (instrumented(model.path, form), 1, fed)
    if layer is not None:
        jobs["middle"] = (instrumented(model.path, form, layers=layer), 1, fed)
    return jobs


def feature_jobs(model: Model, form: str) -> dict[str, tuple[bytes | Path, int, Any]]:
    """What is run of one model to find out what a runtime can do, in the form of `family_jobs`."""
    each = [[281, 7], [7, 281], [1, 2]]
    fed = [CLASSES] if form == "required" else None
    optional, best = instrumented(model.path, "optional"), instrumented(model.path, form)
    return {
        "default value": (optional, 1, None),
        "overridden": (optional, 1, [CLASSES]),
        "required": (instrumented(model.path, "required"), 1, [CLASSES]),
        "fixed": (instrumented(model.path, "fixed"), 1, None),
        "batch": (best, 3, each if fed else None),
        "heatmap": (instrumented(model.path, form, emit=("map", "heatmap", "status")), 1, fed),
        "gradients": (instrumented(model.path, form, emit=("activations", "gradients")), 1, fed),
    }


# --- running it -------------------------------------------------------------------------------------------------------


def run(
    program: Program,
    model: bytes | Path,
    count: int,
    classes: Any,
    seconds: float,
    *,
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Any]:
    """Run a model in a program: `{"outputs": {name: difference}}` against ONNX Runtime, or `{"error": sentence}`.

    The model is fed what is given, or else so many photos and these classes.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "model.onnx" if isinstance(model, bytes) else model
        if isinstance(model, bytes):
            path.write_bytes(model)
        feeds = dict(given) if given is not None else feeds_of(path, count, classes)
        files = {key: f"input_{index}.npy" for index, key in enumerate(feeds)}
        for key, file in files.items():
            np.save(folder / file, feeds[key])
        (folder / "inputs.json").write_text(json.dumps(files), encoding="utf-8")
        try:
            done = subprocess.run(
                [*program.command, str(path), str(folder)],
                capture_output=True, text=True, errors="replace", timeout=seconds, check=False, cwd=ROOT,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {seconds:.0f} s"}
        if done.returncode or not (folder / "outputs.json").exists():
            return {"error": _reason(done)}
        outputs = json.loads((folder / "outputs.json").read_text(encoding="utf-8"))
        found = {key: np.load(folder / file) for key, file in outputs.items()}
        return _compared(RUNTIMES["onnxruntime"].run(path, feeds), found)


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The last thing that a program said, in one line."""
    if done.returncode < 0:
        return f"crashes (signal {-done.returncode})" + _last(done.stderr, "; ")
    return _last(done.stderr) or (f"exit status {done.returncode}" if done.returncode else "writes no outputs.json")


def _last(text: str, before: str = "") -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m|/\S+/(?=\S)|0x[0-9a-f]+", "", text.partition("Stack backtrace")[0])
    lines = [line.strip() for line in plain.splitlines()]
    said = [line for line in lines if re.search(r"error|fail|unsupported|not |must|assert|impossible|\?", line, re.I)]
    said = [line for line in said if "run with `RUST_BACKTRACE" not in line and not line.startswith("Need more")]
    return before + said[-1][:220] if said else ""


def _compared(want: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """For each output the largest difference relative to its largest value; integers must be equal."""
    differences = {}
    for name, value in want.items():
        if name not in found:
            return {"error": f"no output '{name}'"}
        other = np.asarray(found[name])
        if other.shape != value.shape:
            return {"error": f"'{name}' has shape {list(other.shape)}, not {list(value.shape)}"}
        gap = np.abs(other.astype(np.float64) - value)
        largest = np.abs(value.astype(np.float64)).max() if value.dtype.kind == "f" else 1.0
        difference = float(gap.max() / max(largest, 1e-30))
        differences[name] = difference if np.isfinite(difference) else 1e30
    return {"outputs": differences}


# --- the table --------------------------------------------------------------------------------------------------------


class Notes:
    """Reasons, numbered as they come."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str) -> str:
        """A reference to this reason."""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"


def cell(result: Record | None, original: Record | None, allowed: float, notes: Notes) -> str:
    """A difference, or why there is none.

    One above what is allowed is set in bold. How far off the unexplained model is there is said where that is much.
    """
    if result is None:
        return "-"
    if "error" in result:
        if original is not None and "error" in original:
            return f"original fails {notes.mark(original['error'])}"
        return f"fails {notes.mark(result['error'])}"
    worst = max(value for name, value in result["outputs"].items() if name.startswith("xcam_"))
    text = f"{worst:.0e}" if worst <= allowed else f"**{worst:.0e}**"
    off = max(original["outputs"].values()) if original and "outputs" in original else 0.0
    return f"{text} (original {off:.0e})" if off > MUCH else text


def tables(record: Mapping[str, Record], programs: Sequence[Program], models: Sequence[str]) -> str:
    """All tables as Markdown."""
    notes = Notes()
    text = ""
    for job, title in (("default", "Default layer"), ("middle", "Middle layer")):
        rows = [[program.title] for program in programs]
        for model in models:
            itself = [r for k, r in record.items() if k.startswith(ITSELF) and k.endswith(f"|{model}|{job}")]
            allowed = max([ENOUGH, *(3 * max(r["outputs"].values()) for r in itself if "outputs" in r)])
            for row, program in zip(rows, programs, strict=True):
                found, original = (record.get(f"{program.title}|{model}|{kind}") for kind in (job, "original"))
                row.append(cell(found, original, allowed, notes))
        text += f"### {title}\n\n" + in_markdown(["runtime", *models], rows) + "\n"
    rows = []
    for program in programs:
        found = [record.get(f"{program.title}|{SAMPLES[0]}|{feature}") for feature in FEATURES]
        rows.append([program.title, *(cell(result, None, ENOUGH, notes) for result in found)])
    text += detector.table(record, [p.title for p in programs], lambda result: cell(result, None, ENOUGH, notes)) + "\n"
    text += "### What works, with EfficientNet-Lite0\n\n" + in_markdown(["runtime", *HEADS], rows) + "\n"
    return text + "\n".join(f"{index}. `{note}`" for index, note in enumerate(notes.texts, 1)) + "\n"


# --- command line -----------------------------------------------------------------------------------------------------


def programs_of(options: argparse.Namespace) -> list[Program]:
    """The rows; what is not installed is said and left out."""
    pythons = dict(entry.split("=", 1) for entry in options.python)
    programs = []
    for name in options.runtimes:
        runtime, python = RUNTIMES[name], pythons.get(name, sys.executable)
        ask = f"from importlib.metadata import version; print(version({runtime.package!r}))"
        asked = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
        if asked.returncode:
            print(f"{runtime.title}: {runtime.package} is not installed; left out", file=sys.stderr)
            continue
        command = (python, "-W", "ignore", "-m", "tools.runtimes.case", name)
        programs.append(Program(f"{runtime.title} {asked.stdout.strip()}", command, runtime.form))
    for entry in options.command:
        title, _, command = entry.partition("=")
        programs.append(Program(title, tuple(shlex.split(command)), "required"))
    return programs


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.runtimes", __doc__)
    parser.add_argument("models", nargs="*", metavar="MODEL", help="ONNX file or torchvision name")
    parser.add_argument("--runtimes", nargs="+", choices=[*RUNTIMES], default=[*RUNTIMES][1:])
    parser.add_argument("--python", nargs="+", default=[], metavar="RUNTIME=PYTHON", help="another environment for one")
    parser.add_argument("--command", nargs="+", default=[], metavar="TITLE=PROGRAM", help="a runtime of another kind")
    parser.add_argument("--seconds", type=float, default=300, help="for each run (default: 300)")
    parser.add_argument("--record", type=Path, metavar="FILE.json", help="results to go on with, and to write")
    parser.add_argument("--only-table", action="store_true", help="of what the record has; nothing is run")
    parser.add_argument("--table", type=Path, metavar="FILE.md")
    return parser.parse_args()


def run_detector(record: dict[str, Any], programs: Sequence[Program], options: argparse.Namespace) -> None:
    """Run the sample detector in every program that the record has no results of."""
    for form in dict.fromkeys(program.form for program in programs):
        for job, (content, feeds) in detector.jobs(form).items():
            for program in (p for p in programs if p.form == form):
                key = f"{program.title}|{detector.NAME}|{job}"
                if key not in record:
                    record[key] = run(program, content, 0, None, options.seconds, given=feeds)
                    print(key, record[key].get("error") or max(record[key]["outputs"].values()), flush=True)
                if options.record:
                    options.record.write_text(json.dumps(record, indent=0), encoding="utf-8")


def main() -> None:
    """Run what the record has not, and write the tables."""
    options = parse()
    record = json.loads(options.record.read_text("utf-8")) if options.record and options.record.exists() else {}
    programs = programs_of(options)
    with tempfile.TemporaryDirectory() as folder:
        models = [Model(name, SAMPLE_MODELS / f"{name}.onnx") for name in SAMPLES]
        models += [find_model(wanted, Path(folder), "torchscript") for wanted in options.models]
        for model in [] if options.only_table else models:
            for form in dict.fromkeys(program.form for program in programs):
                jobs = family_jobs(model, form)
                if model.name == SAMPLES[0]:
                    jobs |= feature_jobs(model, form)
                for program in (p for p in programs if p.form == form):
                    for job, (content, count, classes) in jobs.items():
                        key = f"{program.title}|{model.name}|{job}"
                        if key not in record:
                            record[key] = run(program, content, count, classes, options.seconds)
                            print(key, record[key].get("error") or max(record[key]["outputs"].values()), flush=True)
                        if options.record:
                            options.record.write_text(json.dumps(record, indent=0), encoding="utf-8")
    if not options.only_table:
        run_detector(record, programs, options)
    text = f"{machine()}, opencv-python {metadata.version('opencv-python')}.\n\n"
    text += tables(record, programs, [model.name for model in models])
    print(text)
    if options.table:
        options.table.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
