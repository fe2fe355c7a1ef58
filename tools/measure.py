"""Measure what the surgery costs, what an instrumented model costs to run, and how fast the command line starts.

    python tools/measure.py surgery resnet50
    python tools/measure.py surgery vit_h.onnx --external-data share copy inline
    python tools/measure.py memory vit_h.onnx
    python tools/measure.py prepared resnet50.onnx vit_tiny.onnx
    python tools/measure.py run resnet50 mobilenet_v2 sample_models/efficientnet_lite0.onnx --batch 1 8 --threads 1 2
    python tools/measure.py head mobilenet_v2 swin_t
    python tools/measure.py cli

A model is an ONNX file or a name as `sweep.py` takes it (then torch exports it first, with random weights). Timings are
ratios or medians from one machine; none of them is a test. `surgery` and `memory` read Linux's /proc for the memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from _layers import middle_layer
from _prepared import measure_prepared
from _process import measure_memory, memory

from onnx_xcam.benchmark.machine import machine, versions
from onnx_xcam.benchmark.timing import Spread, Timings, in_turns

Row = Sequence[str]


class Model(NamedTuple):
    """A model to measure: what to call it, and its file."""

    name: str
    path: Path


def find_model(wanted: str, folder: Path, exporter: str) -> Model:
    """An ONNX file as it is; a torchvision name exported into `folder`, with symbolic batch."""
    if wanted.endswith(".onnx"):
        return Model(Path(wanted).stem, Path(wanted))
    path = folder / f"{wanted}.onnx"
    code = (
        "import sys, pathlib, _torch_models as m;"
        "name, path, exporter = sys.argv[1:];"
        "model = m.build(name); m.randomise(model, m.test_images(name, 4));"
        "m.export(model, m.image_size(name), pathlib.Path(path), exporter, 'dynamic')"
    )
    # A process of its own: torch's threads and memory must not be around while something is measured.
    command = [sys.executable, "-c", code, wanted, str(path), exporter]
    subprocess.run(command, check=True, cwd=Path(__file__).parent)
    return Model(wanted, path)


def in_markdown(head: Row, rows: Sequence[Row]) -> str:
    """A Markdown table."""
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, ["---"] * len(head), *rows))


def taken_on() -> str:
    """What the figures were taken on, and with."""
    with_ = ", ".join(f"{name} {version}" for name, version in versions("onnx", "onnxruntime", "numpy").items())
    return f"{machine()}; {with_}"


# --- surgery ----------------------------------------------------------------------------------------------------------

HOW = ("instrument", "instrument_file")


def measure_surgery(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """Time and peak memory of the surgery, each repeat in a fresh process; medians.

    For the memory the process has done a surgery on a tiny model before, so that what is imported on the way is in.
    Models with external data are also measured with each choice of what becomes of them.
    """
    rows = []
    for wanted in options.models:
        model = find_model(wanted, folder, options.exporter)
        outside = size_outside(model.path)
        choices = options.external_data if outside else ["auto"]
        for how, choice in [(HOW[0], "auto"), *((HOW[1], choice) for choice in choices)]:
            arguments = how, model.path, options.layer, choice
            found = [_once("cold", *arguments) for _ in range(options.repeats)]
            warm = [_once("warm", *arguments) for _ in range(options.repeats)]
            size = model.path.stat().st_size
            peak = statistics.median(one["peak"] for one in warm)
            seconds = [one["seconds"] for one in found]
            rows.append(
                [
                    *(model.name, f"`{how}`" + (f", {choice}" if outside and how == HOW[1] else "")),
                    f"{size / 1e6:.1f} MB" + (f" and {outside / 1e6:.1f} MB outside" if outside else ""),
                    *(f"{statistics.median(seconds):.3f} s", _span(seconds)),
                    *(f"{peak / 1e6:.1f} MB", f"{peak / (size + outside):.2f}", f"{found[0]['tail'] / 1e3:.1f} kB"),
                    f"{found[0]['written'] / 1e6:.1f} MB" if how == HOW[1] else "",
                ]
            )
            print(*rows[-1], flush=True)
    head = ["model", "call", "file", "time (median)", "time (range)", "peak above imports", "peak / file", "tail"]
    return [*head, "written"], rows


def size_outside(path: Path) -> int:
    """Bytes of the model's external data."""
    from onnx_xcam.surgery.files.source import Source

    files = {reference.part.path for reference in Source(path).references()}
    return sum(file.stat().st_size for file in files)


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.3f} to {max(values):.3f}"


def _once(start: str, how: str, path: Path, layer: str, choice: str) -> dict[str, float]:
    command = [sys.executable, __file__, "once", start, how, str(path), layer, choice]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(output))


TINY = """<ir_version: 8, opset_import: ["": 17]> tiny (float[1,3,8,8] image) => (float[1,2] logits)
<float[2,3,1,1] weight = {1, 2, 3, 4, 5, 6}, float[2,2] head = {1, 2, 3, 4}>
{ conv = Conv(image, weight) act = Relu(conv) mean = GlobalAveragePool(act) flat = Flatten(mean)
  logits = Gemm(flat, head) }"""


def surgery_once(start: str, how: str, path: str, layer: str, choice: str) -> None:
    """Do one surgery in this process and print its figures as JSON; with `start` "warm", a tiny one before."""
    from onnx_xcam import surgery

    if start == "warm":
        import onnx

        surgery.instrument(onnx.parser.parse_model(TINY), emit=("map",))
    home = Path(path).parent
    with tempfile.TemporaryDirectory(dir=home) as folder:
        # A result that shares the weights must lie above them; so the folder is one that is not there before.
        out = home / f"{Path(folder).name}.onnx" if choice == "share" else Path(folder) / "out.onnx"
        before = memory("VmRSS")
        begin = time.perf_counter()
        if how == "instrument":
            surgery.instrument(path, layers=layer, emit=("map",))
        else:
            surgery.instrument_file(path, out, layers=layer, emit=("map",), external_data=choice)
        seconds = time.perf_counter() - begin
        peak = memory("VmHWM") - before
        files = [out, *(file for file in Path(folder).rglob("*") if file.is_file() and file != out)]
        written = sum(file.stat().st_size for file in files) if how == "instrument_file" else 0
        tail = surgery.instrument_bytes(path, layers=layer, emit=("map",))
        out.unlink(missing_ok=True)
    tail_size = len(tail) - Path(path).stat().st_size
    print(json.dumps({"seconds": seconds, "peak": peak, "tail": tail_size, "written": written}))


# --- run --------------------------------------------------------------------------------------------------------------


def measure_run(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """`session.run` of the instrumented model against the plain one's, interleaved."""
    from _sessions import session

    from onnx_xcam.surgery import instrument_bytes

    rows = []
    for wanted in options.models:
        model = find_model(wanted, folder, options.exporter)
        instrumented = instrument_bytes(model.path, layers=options.layer, emit=options.emit.split(","))
        for threads in options.threads:
            sessions = session(model.path, threads), session(instrumented, threads)
            for batch in options.batch:
                feeds = random_feeds(sessions[0], batch)
                runs = {name: _runner(one, feeds) for name, one in zip(RUNS, sessions, strict=True)}
                timings = in_turns(runs, options.seconds, least=10)
                rows.append([model.name, str(batch), str(threads), *_compared(timings)])
                print(*rows[-1], flush=True)
    head = ["model", "batch", "threads", "plain", "instrumented", "ratio of the pairs", "quartiles", "rounds"]
    return head, rows


RUNS = ("plain", "instrumented")


def _runner(session: Any, feeds: dict[str, Any]) -> Callable[[], Any]:
    return lambda: session.run(None, feeds)


def random_feeds(session: Any, batch: int) -> dict[str, Any]:
    """Random values for the inputs of a plain model, symbolic dimensions (the batch) set."""
    import numpy as np

    random = np.random.default_rng(0)
    return {
        value.name: random.standard_normal([d if isinstance(d, int) else batch for d in value.shape], np.float32)
        for value in session.get_inputs()
    }


def _compared(timings: Timings) -> Row:
    plain, instrumented = (timings.spread(name).median for name in RUNS)
    ratio = timings.ratio(*reversed(RUNS))
    milliseconds = [f"{value * 1000:.2f} ms" for value in (plain, instrumented)]
    return [*milliseconds, f"{ratio.median:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", str(len(timings.rounds))]


# --- head -------------------------------------------------------------------------------------------------------------


def measure_head(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """What the head's backward pass costs at a middle layer, in units of the head's own forward pass.

    The backward pass is what a run of the instrumented model takes longer than one of the plain model.
    """
    from _sessions import session

    from onnx_xcam.surgery import instrument_bytes

    rows = []
    for wanted in options.models:
        model = find_model(wanted, folder, options.exporter)
        layer = middle_layer(model.path) if options.layer == "auto" else options.layer
        if layer is None:
            print(f"{model.name}: no layer before the default one", flush=True)
            continue
        plain = session(model.path, options.threads)
        feeds = random_feeds(plain, options.batch)
        runs = {
            "plain": _runner(plain, feeds),
            "made": _runner(session(instrument_bytes(model.path, layers=layer, emit=("map",)), options.threads), feeds),
            "head": _runner(*_head(model.path, layer, feeds, options.threads)),
        }
        timings = in_turns(runs, options.seconds)
        whole, made, head = (timings.spread(name).median for name in runs)
        ratio = Spread.of([(found["made"] - found["plain"]) / found["head"] for found in timings.rounds])
        milliseconds = [f"{value * 1000:.2f} ms" for value in (whole, head, made - whole)]
        ratios = [f"{value:.2f}" for value in (ratio.median, ratio.low, ratio.high)]
        rows.append([model.name, str(options.batch), str(options.threads), layer, *milliseconds, *ratios])
        print(*rows[-1], flush=True)
    if rows:
        print(f"median of the ratios: {statistics.median(float(row[-3]) for row in rows):.2f}")
    head = ["model", "batch", "threads", "layer", "plain model", "head forward", "head backward", "backward / forward"]
    return [*head, "lower quartile", "upper quartile"], rows


def _head(path: Path, layer: str, feeds: dict[str, Any], threads: int) -> tuple[Any, dict[str, Any]]:
    """A session of the part behind a layer, and its inputs as they are in a run of the whole model."""
    from _sessions import session

    from onnx_xcam.surgery.analysis.prepare import prepare
    from onnx_xcam.surgery.files.source import Source
    from onnx_xcam.surgery.normalise.normalise import modernised
    from onnx_xcam.surgery.submodels.behind_layer import head_inputs, head_model, with_outputs
    from onnx_xcam.surgery.targets.classification import find_score

    source, skeleton, _ = modernised(Source(path))
    graph = prepare(skeleton)
    score = find_score(graph).name
    inputs = [layer, *head_inputs(graph, layer, score)]
    whole = session(with_outputs(source.with_tail(b""), inputs), 1)
    values = dict(zip(inputs, whole.run(inputs, feeds), strict=True))
    weights = {tensor.name: tensor for tensor in source.load().graph.initializer}
    return session(head_model(graph, weights, layer, score).SerializeToString(), threads), values


# --- command line of the product --------------------------------------------------------------------------------------


def measure_cli(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """Time of `onnx-xcam --help` from a fresh process."""
    commands = {
        "`onnx-xcam --help`": [sys.executable, "-m", "onnx_xcam.cli", "--help"],
        "Python alone": [sys.executable, "-c", ""],
    }
    runs = {
        name: lambda command=command: subprocess.run(command, check=True, capture_output=True)
        for name, command in commands.items()
    }
    timings = in_turns(runs, 0, least=options.repeats)
    rows = []
    for name in runs:
        rows.append([name, f"{timings.spread(name).median:.3f} s", _span(timings.seconds(name))])
        print(*rows[-1], flush=True)
    return ["command", "time (median)", "time (range)"], rows


# --- command line of this program -------------------------------------------------------------------------------------

MEASURES = {
    "surgery": measure_surgery,
    "memory": measure_memory,
    "prepared": measure_prepared,
    "run": measure_run,
    "head": measure_head,
    "cli": measure_cli,
}


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--table", type=Path, metavar="FILE.md", help="write the figures as a Markdown table")
    of_models = argparse.ArgumentParser(add_help=False)
    of_models.add_argument("models", nargs="+", metavar="MODEL", help="ONNX file or torchvision name")
    of_models.add_argument("--layer", default="auto")
    of_models.add_argument("--exporter", choices=("torchscript", "dynamo"), default="torchscript")
    surgery = commands.add_parser("surgery", parents=[common, of_models], help="time, peak memory, tail")
    surgery.add_argument("--repeats", type=int, default=5)
    surgery.add_argument("--external-data", nargs="+", choices=("auto", "share", "copy", "inline"), default=["auto"])
    prepared = commands.add_parser("prepared", parents=[common], help="whether prepared weights are folded at load")
    prepared.add_argument("models", nargs="+", metavar="MODEL", help="ONNX file")
    prepared.add_argument("--seconds", type=float, default=15, help="for each figure (default: 15)")
    load = commands.add_parser("memory", parents=[common], help="memory of an Explainer against a plain session")
    load.add_argument("models", nargs="+", metavar="MODEL", help="ONNX file")
    load.add_argument("--threads", type=int, default=2)
    run = commands.add_parser("run", parents=[common, of_models], help="session.run, instrumented against plain")
    run.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    run.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    run.add_argument("--emit", default="map", help="as of the surgery, with commas (default: map)")
    run.add_argument("--seconds", type=float, default=10, help="for each figure, at least ten pairs (default: 10)")
    head = commands.add_parser("head", parents=[common, of_models], help="the head's backward pass against its forward")
    head.add_argument("--batch", type=int, default=1)
    head.add_argument("--threads", type=int, default=1)
    head.add_argument("--seconds", type=float, default=5, help="for each model, at least seven rounds (default: 5)")
    cli = commands.add_parser("cli", parents=[common], help="start of the command line")
    cli.add_argument("--repeats", type=int, default=11)
    once = commands.add_parser("once", help="one surgery in this process: what `surgery` starts")
    once.add_argument("start", choices=("cold", "warm"))
    once.add_argument("how", choices=HOW)
    once.add_argument("model")
    once.add_argument("layer")
    once.add_argument("choice")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the table."""
    options = parse()
    if options.command == "once":
        surgery_once(options.start, options.how, options.model, options.layer, options.choice)
        return
    with tempfile.TemporaryDirectory() as folder:
        head, rows = MEASURES[options.command](options, Path(folder))
    text = f"{taken_on()}.\n\n{in_markdown(head, rows)}"
    print("\n" + text)
    if options.table:
        options.table.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
