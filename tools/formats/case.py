"""One model is put into a format, instrumented, and its outputs and gradient are compared."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import nn

import onnx_xcam
from onnx_xcam import contract
from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery import instrument_bytes
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.analysis.value_ranges import clips_nothing
from tools.common import torch_models
from tools.common.layers import middle_layer
from tools.common.matching import Match, matches
from tools.formats.fake_quant import Interpreter, Mask, step_of
from tools.formats.recipes import FORMATS, file_of
from tools.sweep import torch_case
from tools.sweep.comparison import Found, compare_outputs, map_failures, per_image

EMIT = ("map", "activations", "gradients")
CALIBRATION = 8
"""Images that the quantiser sees; the first and the last of them are explained."""
LEVELS = {
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


@dataclass(frozen=True)
class Explained:
    """An instrumented file's layer and what it gave on all images.

    Attributes:
        model: the instrumented file.
        layer, layout, grid: as its metadata say.
        outputs: all outputs; gradients in float64.
        positions: the activations as [N, positions, C], other tokens left out.
    """

    model: bytes
    layer: str
    layout: str
    grid: Sequence[int] | None
    outputs: dict[str, np.ndarray]
    positions: np.ndarray


def open_ends(model: onnx.ModelProto) -> dict[str, list[str]]:
    """The ends of quantised tensors' ranges at which the package takes nothing for clipped."""
    graph = prepare(model)
    quantisers = [node for node in graph.nodes if node.op == "QuantizeLinear"]
    ends = {node.outputs[0].name: [e for e in ("min", "max") if clips_nothing(graph, node, e)] for node in quantisers}
    return {name: found for name, found in ends.items() if found}


class FormatCase(torch_case.Comparison):
    """One model with random parameters in every format."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.calibration = np.empty(0)
        super().__init__(name, options, folder)
        float_file = folder / "float.onnx"
        if not float_file.is_file():
            size = torch_models.image_size(name)
            torch_models.export(self.model, size, float_file, options.exporter, "dynamic")
        self.references: dict[str, tuple[Explained, Match]] = {}
        self.plain: dict[Path, dict[str, dict[str, np.ndarray]] | str] = {}
        self.found: dict[tuple[str, str], Explained] = {}

    def build(self) -> tuple[nn.Module, np.ndarray]:
        """The model with random parameters, and the images that are explained."""
        model = torch_models.build(self.name, self.options.seed)
        self.calibration = torch_models.test_images(self.name, CALIBRATION, self.options.seed)
        torch_models.randomise(model, self.calibration, self.options.seed)
        return model, self.calibration[[0, -1]]

    def measure_format(self, name: str, layer: str) -> dict[str, Any]:
        """Everything about one format and layer: "not_made" or "not_run" with the reason, "failures", figures."""
        try:
            path = file_of(self.folder, name, self.calibration)
        except Exception as error:  # noqa: BLE001  whatever the tool raises; it is printed and recorded
            return {"not_made": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        plain = self._plain(path)
        if isinstance(plain, str):
            return {"not_run": plain}
        try:
            about, mine = self._explained_layer(path, name, layer)
        except onnx_xcam.XcamError as error:
            return {"failures": [f"{type(error).__name__}: {error}"]}
        outputs = self._compare_outputs(FORMATS[name].kind, plain, mine.outputs)
        return {**about, **outputs, **self._compare_gradient(path, name, layer, mine)}

    # --- outputs --------------------------------------------------------------------------------------------------

    def _plain(self, path: Path) -> dict[str, dict[str, np.ndarray]] | str:
        """The file's own outputs by level, or why there are none."""
        if path not in self.plain:
            try:
                self.plain[path] = loading_kills(path) or self._at_levels(path)
            except Exception as error:  # noqa: BLE001  ONNX Runtime's errors have no common class
                self.plain[path] = " ".join(str(error).split())[:300]
        return self.plain[path]

    def _at_levels(self, path: Path) -> dict[str, dict[str, np.ndarray]]:
        """The file's own outputs at every level of ONNX Runtime's optimisation; that of "all" must work."""
        found = {"all": self._outputs(path, "all")}
        for level in LEVELS:
            if level != "all" and FORMATS[path.stem].kind != "float":
                found[level] = self._outputs(path, level)
        return found

    def _outputs(
        self, model: bytes | Path, level: str = "all", classes: np.ndarray | None = None
    ) -> dict[str, np.ndarray]:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self.threads, 3
        options.graph_optimization_level = LEVELS[level]
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        image = session.get_inputs()[0]
        feeds = {image.name: self.images.astype(np.float16 if "float16" in image.type else np.float32)}
        if classes is not None:
            feeds[contract.CLASS_INPUT] = classes
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, feeds), strict=True))

    def _compare_outputs(
        self, kind: str, plain: Mapping[str, dict[str, np.ndarray]], mine: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        usual = plain["all"]
        between = [compare_outputs(a, b)["outputs"] for a in plain.values() for b in plain.values()]
        (logits,) = usual.values()
        moved = any((mine[name].argmax(1) != values.argmax(1)).any() for name, values in usual.items())
        off = float(np.abs(logits - self.exact_logits).max() / np.abs(self.exact_logits).max())
        return {**compare_outputs(usual, mine), "levels": max(between), "top_moved": moved, "off_float": off}

    # --- the layer ------------------------------------------------------------------------------------------------

    def _explained_layer(self, path: Path, name: str, layer: str) -> tuple[dict[str, Any], Explained]:
        """The instrumented file's outputs at the layer that is the float model's."""
        float_one, _ = self._reference(layer)
        best, value = self._closest(path, float_one)
        chosen = "auto" if layer == "default" else best
        mine = self.explain(path, chosen)
        same = correlation(mine.positions, float_one.positions)
        self.found[name, layer] = mine
        about = {"name": mine.layer, "shape": list(mine.outputs["xcam_activations"].shape), "layout": mine.layout}
        return {**about, "same": same, "closest": best, "closest_same": value}, mine

    def _reference(self, layer: str) -> tuple[Explained, Match]:
        """The float file's layer, and which tensor of PyTorch's it is."""
        if layer not in self.references:
            path = self.folder / "float.onnx"
            chosen = "auto" if layer == "default" else middle_layer(path)
            assert chosen is not None, "there is no layer before the default one"
            found = self.explain(path, chosen)
            ours = found.outputs["xcam_gradients"]
            close = matches(self.exact_tensors, found.outputs["xcam_activations"])
            errors = [per_image(ours - exact, exact).max() for exact, _ in self._gradients_at(close, found)]
            self.references[layer] = found, close[int(np.argmin(errors))]
        return self.references[layer]

    def _gradients_at(self, close: Sequence[Match], found: Explained) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.gradients(match, found.outputs["xcam_classes"]) for match in close]

    def explain(self, path: Path, layer: str) -> Explained:
        """Instrument a file at a layer and run it."""
        instrumented = instrument_bytes(path, layers=layer, emit=EMIT)
        model = onnx.load_from_string(instrumented)
        about = Metadata.from_props({p.key: p.value for p in model.metadata_props}, str(path))
        outputs = self._outputs(instrumented, classes=self._classes())
        outputs["xcam_gradients"] = outputs["xcam_gradients"].astype(np.float64)
        layout, grid = about.layout(0), about.grid(0)
        positions = in_positions(outputs["xcam_activations"], layout, grid)
        return Explained(instrumented, about.layers[0], layout, grid, outputs, positions)

    def _closest(self, path: Path, wanted: Explained) -> tuple[str, float]:
        """The layer of a file whose values correlate best with those of the float file's layer, and how well."""
        model = onnx.load(path)
        known = {name for node in model.graph.node for name in node.output}
        known -= {value.name for value in model.graph.output}
        layers = {layer.name: layer for layer in onnx_xcam.inspect(path).layers if layer.name in known}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in layers)
        outputs = self._outputs(model.SerializeToString())
        best, value = "", -1.0
        for name, layer in layers.items():
            values = in_positions(outputs[name], layer.layout, layer.grid)
            if (
                values.shape == wanted.positions.shape
                and (found := correlation(values, wanted.positions)) > value + 1e-6
            ):
                best, value = name, found
        return best, value

    # --- the gradient ---------------------------------------------------------------------------------------------

    def _compare_gradient(self, path: Path, name: str, layer: str, mine: Explained) -> dict[str, Any]:
        failures = map_failures(mine.outputs["xcam_map"])
        kind = FORMATS[name].kind
        if kind == "float":
            result = self._compare(mine.outputs)
            return {**result, "failures": failures + result.get("failures", [])}
        compared = (
            self._compare_half(path, layer, mine) if kind == "float16" else self._compare_quantised(path, name, mine)
        )
        if name == "qoperator":
            compared["like_qdq"] = self._like_qdq(layer, mine)
        return {"failures": failures, **compared}

    def _compare_half(self, path: Path, layer: str, mine: Explained) -> dict[str, Any]:
        """Cosine to autograd in float64: of the float model, from these activations on, and with what lies behind the
        layer as ONNX Runtime had it."""
        _, at = self._reference(layer)
        ours, classes = mine.outputs["xcam_gradients"], mine.outputs["xcam_classes"]
        exact, _ = self.gradients(at, classes)
        found = Found(at, classes, ours, mine.outputs["xcam_activations"])
        own = ours - np.stack([self._difference(found, n, []) for n in range(len(exact))])
        alike = self._autograd(onnx.load(path), mine, "inside", self._read(path, mine))
        rests = per_image(ours - alike, alike).tolist()
        return {"cosine": cosine(ours, exact), "own_cosine": cosine(ours, own), "rests": rests}

    def _compare_quantised(self, path: Path, name: str, mine: Explained) -> dict[str, Any]:
        """The gradient against autograd through the same quantised parameters, with straight-through estimators."""
        other = FORMATS[name].source
        model = onnx.load(path if other not in FORMATS else self.folder / f"{other}.onnx")
        ours = mine.outputs["xcam_gradients"]
        inside = self._autograd(model, mine, "inside")
        alike = self._autograd(model, mine, "inside", self._read(path, mine))
        result = {"errors": per_image(ours - inside, inside).tolist(), "rests": per_image(ours - alike, alike).tolist()}
        if FORMATS[name].kind == "static":
            torchs = self._autograd(model, mine, "torch")
            result["torch_mask"] = per_image(ours - torchs, torchs).tolist()
            result["torch_cosine"] = cosine(ours, torchs)
        return result

    def _read(self, path: Path, mine: Explained) -> dict[str, np.ndarray]:
        """Every value of the model that the backward pass read, as ONNX Runtime had it then."""
        model = onnx.load_from_string(mine.model)
        count = len(onnx.load(path).graph.node)
        made = {name for node in model.graph.node[:count] for name in node.output}
        made -= {value.name for value in model.graph.output}
        names = sorted({name for node in model.graph.node[count:] for name in node.input} & made)
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        outputs = self._outputs(model.SerializeToString(), classes=self._classes())
        off = np.abs(outputs["xcam_gradients"] - mine.outputs["xcam_gradients"]).max()
        if off:
            print(f"     with what it reads as outputs, the gradient of {path.stem} moves by {off:.1e}", flush=True)
        return {name: outputs[name] for name in names}

    def _autograd(
        self, model: onnx.ModelProto, mine: Explained, mask: Mask, known: Mapping[str, np.ndarray] | None = None
    ) -> np.ndarray:
        """d score / d layer, [N,K,...], by autograd from ONNX Runtime's activations of the layer on."""
        layer = torch.from_numpy(mine.outputs["xcam_activations"].astype(np.float64)).requires_grad_()
        step = step_of(model.graph, mine.layer)
        given = {mine.layer: layer}
        if step is not None:
            name, scale, zero = step
            given = {name: layer / scale + zero}
        (logits,) = Interpreter(model, mask, given, known, open_ends(model)).run(self.images)
        chosen = logits.reshape(len(self.images), -1).gather(1, torch.from_numpy(mine.outputs["xcam_classes"]))
        columns = []
        for k in range(chosen.shape[1]):
            (of_class,) = torch.autograd.grad(chosen[:, k].sum(), layer, retain_graph=True)
            columns.append(of_class.numpy())
        return np.stack(columns, axis=1)

    def _like_qdq(self, layer: str, mine: Explained) -> float | None:
        """Cosine to the gradient of the QDQ file of the same calibration."""
        if ("qdq", layer) not in self.found:
            result = self.measure_format("qdq", layer)
            if ("qdq", layer) not in self.found:
                raise RuntimeError(f"the QDQ file gave no gradient: {result}")
        other, ours = self.found["qdq", layer].outputs, mine.outputs
        if ours["xcam_gradients"].shape != other["xcam_gradients"].shape:
            return None
        same = ours["xcam_classes"] == other["xcam_classes"]  # their top classes may be two
        pairs = [outputs["xcam_gradients"][same][:, None] for outputs in (ours, other)]
        return cosine(*pairs)


def loading_kills(path: Path) -> str | None:
    """What becomes of a process that only loads the file, if it does not survive that."""
    code = "import sys, onnxruntime; onnxruntime.InferenceSession(sys.argv[1], providers=['CPUExecutionProvider'])"
    command = [sys.executable, "-c", code, str(path)]
    status = subprocess.run(command, check=False, capture_output=True).returncode
    return (
        f"ONNX Runtime's process ends by {signal.Signals(-status).name} while it loads the file" if status < 0 else None
    )


def in_positions(values: np.ndarray, layout: str, grid: Sequence[int | None] | None) -> np.ndarray:
    """A layer's values as float64 [N, positions, C]; tokens that are no part of the picture are left out."""
    order = [layout.find(axis) for axis in ("NTC" if "T" in layout else "NHWC")]
    moved = values.astype(np.float64).transpose(order)
    flat = moved.reshape(len(moved), -1, moved.shape[-1])
    if grid is not None:
        before, after = int(grid[2] or 0), int(grid[3] or 0)
        flat = flat[:, before : flat.shape[1] - after]
    return flat


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """The correlation of two arrays, of all values together."""
    if a.shape != b.shape:
        return -1.0
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1]) if np.ptp(a) and np.ptp(b) else -1.0


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine between gradients [N,K,...], the smallest of all images and classes."""
    a, b = (values.reshape(*values.shape[:2], -1) for values in (a, b))
    lengths = np.maximum(np.linalg.norm(a, axis=2) * np.linalg.norm(b, axis=2), 1e-300)
    return float(((a * b).sum(2) / lengths).min())
