"""Measure whether ONNX Runtime prepares weights once, when it loads an instrumented model, and not in every run.

The backward pass needs weights transposed or flipped, and the tail makes them by nodes that depend on constants alone.
Counted is what is left of those in the optimised graph; timed is a run against one of the same model in which they are
computed beforehand and stored.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_xcam.benchmark.timing import in_turns
from onnx_xcam.surgery import instrument
from tools.common.layers import middle_layer
from tools.common.tables import Row


def measure_prepared(options: argparse.Namespace, folder: Path) -> tuple[Row, list[Row]]:
    """Count and time at the default layer and at one in the middle: a row for each."""
    rows: list[Row] = []
    for path in map(Path, options.models):
        for layer in filter(None, ("auto", middle_layer(path))):
            rows.append([path.stem, layer, *_compared(path, layer, folder, options.seconds)])
            print(*rows[-1], flush=True)
    head = ["model", "layer", "nodes of constants added", "left when optimised", "loading", "stored", "run / stored"]
    return head, rows


def _compared(path: Path, layer: str, folder: Path, seconds: float) -> list[str]:
    original = {name for node in onnx.load(path, load_external_data=False).graph.node for name in node.output}
    model = instrument(path, layers=layer, emit=("map",))
    ours, stored = folder / "ours.onnx", folder / "stored.onnx"
    _save(model, ours)
    added = [node for node in constant_nodes(model) if node.output[0] not in original]
    optimised = _optimised(ours, folder)
    left = [node for node in constant_nodes(optimised) if node.output[0] not in original]
    counts = [
        ", ".join(f"{n} {op}" for op, n in Counter(node.op_type for node in nodes).items()) for nodes in (added, left)
    ]
    if not added:
        return ["none", "none", "", "", ""]
    _store(model, added)
    _save(model, stored)
    loads: list[list[float]] = [[], []]
    for _ in range(5):
        for times, file in zip(loads, (ours, stored), strict=True):
            begin = time.perf_counter()
            _session(file)
            times.append(time.perf_counter() - begin)
    ratio = _ratio(_session(ours), _session(stored), seconds)
    return [counts[0], counts[1] or "none", *(f"{statistics.median(times):.2f} s" for times in loads), f"{ratio:.3f}"]


def constant_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes, in order, that depend on constants alone; Constant nodes themselves are not meant."""
    known = {tensor.name for tensor in model.graph.initializer} - {value.name for value in model.graph.input}
    found = []
    for node in model.graph.node:
        constant = bool(node.input) and all(not name or name in known for name in node.input)
        if constant or node.op_type == "Constant":
            known.update(node.output)
        if constant:
            found.append(node)
    return found


def _store(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Put the results of these nodes in their place."""
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    arrays |= {
        n.output[0]: numpy_helper.to_array(n.attribute[0].t) for n in model.graph.node if n.op_type == "Constant"
    }
    nodes = list(nodes)
    for node in nodes:
        inputs = {name: arrays[name] for name in node.input if name}
        infos = [onnx.helper.make_tensor_value_info(n, _kind(array), None) for n, array in inputs.items()]
        ends = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output]
        graph = onnx.helper.make_graph([node], "node", infos, ends)
        alone = onnx.helper.make_model(graph, opset_imports=model.opset_import)
        (arrays[node.output[0]],) = ReferenceEvaluator(alone).run(None, inputs)
        value = np.ascontiguousarray(arrays[node.output[0]])
        model.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    gone = {node.output[0] for node in nodes}
    kept = [node for node in model.graph.node if not node.output or node.output[0] not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _kind(array: np.ndarray) -> int:
    return onnx.helper.np_dtype_to_tensor_dtype(array.dtype)


def _save(model: onnx.ModelProto, path: Path) -> None:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    path.with_suffix(".bin").unlink(missing_ok=True)
    onnx.save(copy, path, save_as_external_data=True, location=path.with_suffix(".bin").name)


def _session(path: Path, optimised: Path | None = None) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if optimised:
        options.optimized_model_filepath = str(optimised)
        entry = "session.optimized_model_external_initializers_file_name"
        options.add_session_config_entry(entry, optimised.with_suffix(".bin").name)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _optimised(path: Path, folder: Path) -> onnx.ModelProto:
    target = folder / "optimised.onnx"
    _session(path, target)
    return onnx.load(target, load_external_data=False)


def _ratio(first: Any, second: Any, seconds: float) -> float:
    """The median ratio of runs in turns."""
    feed = first.get_inputs()[0]
    shape = [1 if not isinstance(dim, int) else dim for dim in feed.shape]
    image = np.random.default_rng(0).standard_normal(shape).astype(np.float16 if "16" in feed.type else np.float32)
    runs = {name: lambda one=one: one.run(None, {feed.name: image}) for name, one in (("a", first), ("b", second))}
    return in_turns(runs, seconds, least=10).ratio("a", "b").median
