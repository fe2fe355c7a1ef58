"""Measure what the surgery costs: its time, its peak memory, and the size of what it adds.

Each figure is taken in a fresh process, `python -m tools.speed.surgery START HOW MODEL LAYER EXTERNAL_DATA`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tools.common.exported import find_model
from tools.common.memory import memory
from tools.common.tables import Row

HOW = ("instrument", "instrument_file")


def measure_surgery(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """Measure time and peak memory of the surgery, each repeat in a fresh process; medians.

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
    command = [sys.executable, "-m", "tools.speed.surgery", start, how, str(path), layer, choice]
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


if __name__ == "__main__":
    surgery_once(*sys.argv[1:])
