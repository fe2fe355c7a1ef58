"""Measure what the backward pass costs, in units of a forward run of the part of the model that it goes through."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from onnx_xcam.benchmark.timing import Spread, in_turns
from onnx_xcam.surgery import instrument_bytes
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.files.source import Source
from onnx_xcam.surgery.normalise.normalise import normalised
from onnx_xcam.surgery.submodels.behind_layer import bypassing_tensors, model_behind
from onnx_xcam.surgery.submodels.more_outputs import with_outputs
from onnx_xcam.surgery.targets.classification import find_score
from tools.common.exported import find_model
from tools.common.layers import middle_layer
from tools.common.sessions import session
from tools.common.tables import Row


def measure_behind_layer(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """Measure the backward pass at a middle layer, in units of the forward pass of the part behind it.

    The backward pass is what a run of the instrumented model takes longer than one of the plain model.
    """
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
            "behind": _runner(*_part_behind(model.path, layer, feeds, options.threads)),
        }
        timings = in_turns(runs, options.seconds)
        whole, made, behind = (timings.spread(name).median for name in runs)
        ratio = Spread.of([(found["made"] - found["plain"]) / found["behind"] for found in timings.rounds])
        milliseconds = [f"{value * 1000:.2f} ms" for value in (whole, behind, made - whole)]
        ratios = [f"{value:.2f}" for value in (ratio.median, ratio.low, ratio.high)]
        rows.append([model.name, str(options.batch), str(options.threads), layer, *milliseconds, *ratios])
        print(*rows[-1], flush=True)
    if rows:
        print(f"median of the ratios: {statistics.median(float(row[-3]) for row in rows):.2f}")
    head = ["model", "batch", "threads", "layer", "plain model", "forward", "backward", "backward / forward"]
    return [*head, "lower quartile", "upper quartile"], rows


def _part_behind(path: Path, layer: str, feeds: dict[str, Any], threads: int) -> tuple[Any, dict[str, Any]]:
    """A session of the part behind a layer, and its inputs as they are in a run of the whole model."""
    source, skeleton, _ = normalised(Source(path))
    graph = prepare(skeleton)
    score = find_score(graph).name
    inputs = [layer, *bypassing_tensors(graph, layer, score)]
    whole = session(with_outputs(source.with_tail(b""), inputs), 1)
    values = dict(zip(inputs, whole.run(inputs, feeds), strict=True))
    weights = {tensor.name: tensor for tensor in source.load().graph.initializer}
    return session(model_behind(graph, weights, layer, score).SerializeToString(), threads), values


def _runner(session: Any, feeds: dict[str, Any]) -> Callable[[], Any]:
    return lambda: session.run(None, feeds)


def random_feeds(session: Any, batch: int) -> dict[str, Any]:
    """Random values for the inputs of a plain model, symbolic dimensions (the batch) set."""
    random = np.random.default_rng(0)
    return {
        value.name: random.standard_normal([d if isinstance(d, int) else batch for d in value.shape], np.float32)
        for value in session.get_inputs()
    }
