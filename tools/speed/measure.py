"""Measure what the surgery costs, what the backward pass costs, and how fast the command line starts.

    python -m tools.speed.measure surgery resnet50
    python -m tools.speed.measure surgery vit_h.onnx --external-data share copy inline
    python -m tools.speed.measure memory vit_h.onnx
    python -m tools.speed.measure prepared resnet50.onnx vit_tiny.onnx
    python -m tools.speed.measure behind-layer mobilenet_v2 swin_t
    python -m tools.speed.measure cli

A model is an ONNX file or a name as `tools.sweep` takes it (then torch exports it first, with random weights). Timings
are ratios or medians from one machine; none of them is a test. `surgery` and `memory` read Linux's /proc for the
memory. What a run of an explained model costs over a plain one, `tools.speed.bench` measures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tools.common import command_line
from tools.common.tables import in_markdown, taken_on
from tools.speed.behind_layer import measure_behind_layer
from tools.speed.explainer_memory import measure_memory
from tools.speed.prepared import measure_prepared
from tools.speed.startup import measure_cli
from tools.speed.surgery import measure_surgery

MEASURES = {
    "surgery": measure_surgery,
    "memory": measure_memory,
    "prepared": measure_prepared,
    "behind-layer": measure_behind_layer,
    "cli": measure_cli,
}


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = command_line.parser("tools.speed.measure", __doc__)
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
    behind = commands.add_parser(
        "behind-layer", parents=[common, of_models], help="the part behind a layer: backward pass against forward pass"
    )
    behind.add_argument("--batch", type=int, default=1)
    behind.add_argument("--threads", type=int, default=1)
    behind.add_argument("--seconds", type=float, default=5, help="for each model, at least seven rounds (default: 5)")
    cli = commands.add_parser("cli", parents=[common], help="start of the command line")
    cli.add_argument("--repeats", type=int, default=11)
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the table."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        head, rows = MEASURES[options.command](options, Path(folder))
    text = f"{taken_on()}.\n\n{in_markdown(head, rows)}"
    print("\n" + text)
    if options.table:
        options.table.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
