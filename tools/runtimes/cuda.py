"""Compare the maps of another provider (CUDA) with the CPU's, and time its runs against plain ones.

    python -m tools.runtimes.cuda model.onnx ... --table cuda.md

Inputs and outputs stay on the device (I/O binding), so that what is timed is the computing. TF32 is off. For each model
the default layer and the bottleneck nearest to the middle of the graph; random pictures.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from onnx_xcam import contract
from onnx_xcam.benchmark.timing import in_turns
from onnx_xcam.surgery import instrument_bytes
from tools.common import command_line
from tools.common.layers import middle_layer
from tools.common.tables import in_markdown

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CLASSES = np.array([[3, 7]], np.int64)
HEAD = ["model", "layer", "batch", "map against the CPU's", "plain", "ratio (quartiles)"]


def session(model: bytes, provider: str) -> ort.InferenceSession:
    """A session on a provider, with the CPU behind it for what that lacks."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    first: Any = (CUDA, {"use_tf32": "0"}) if provider == CUDA else provider
    made = ort.InferenceSession(model, options, providers=[first, CPU] if provider != CPU else [CPU])
    made.disable_fallback()
    if made.get_providers()[0] != provider:
        raise SystemExit(f"{provider} could not be started; running: {', '.join(made.get_providers())}")
    return made


def bound(made: ort.InferenceSession, feeds: dict[str, np.ndarray], device: str) -> Callable[[], None]:
    """A run whose inputs and outputs stay on the device."""
    binding = made.io_binding()
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, device, 0))
    for output in made.get_outputs():
        binding.bind_output(output.name, device)

    def run() -> None:
        made.run_with_iobinding(binding)
        binding.synchronize_outputs()

    return run


def rows(path: Path, options: argparse.Namespace) -> Iterator[list[str]]:
    """The figures of a model."""
    content, device = path.read_bytes(), "cuda" if options.provider == CUDA else "cpu"
    random = np.random.default_rng(0)
    for shown, layer in (("default", "auto"), ("middle", middle_layer(path))):
        if layer is None:
            continue
        made = instrument_bytes(path, layers=layer, emit=("map",))
        plain, there, here = session(content, options.provider), session(made, options.provider), session(made, CPU)
        (image,) = plain.get_inputs()
        for batch in options.batch:
            shape = [dim if isinstance(dim, int) else batch for dim in image.shape]
            if shape[0] != batch:
                continue
            feeds = {image.name: random.standard_normal(shape, np.float32)}
            both = [one.run(["xcam_map"], {**feeds, contract.CLASS_INPUT: CLASSES})[0] for one in (here, there)]
            difference = float(np.abs(both[0] - both[1]).max() / max(float(both[0].max()), 1e-30))
            calls = {"plain": bound(plain, feeds, device), "made": bound(there, feeds, device)}
            timings = in_turns(calls, options.seconds)
            ratio, milliseconds = timings.ratio("made", "plain"), timings.spread("plain").median * 1000
            spread = f"{ratio.median:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
            yield [path.stem, shown, str(batch), f"{difference:.0e}", f"{milliseconds:.2f} ms", spread]


def main() -> None:
    """Measure, print, and write the table."""
    parser = command_line.parser("tools.runtimes.cuda", __doc__)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--provider", default=CUDA, help=f"ONNX Runtime's full name (default: {CUDA})")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=3, help="for each figure (default: 3)")
    parser.add_argument("--table", type=Path, metavar="FILE.md", help="write the figures as a Markdown table")
    options = parser.parse_args()
    begin, found = time.perf_counter(), []
    for path in options.models:
        for row in rows(path, options):
            found.append(row)
            print(*row, flush=True)
    print(f"{time.perf_counter() - begin:.0f} s, ONNX Runtime {ort.__version__}")
    if options.table:
        options.table.write_text(in_markdown(HEAD, found), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
