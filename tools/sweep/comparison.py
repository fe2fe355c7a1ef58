"""One model is exported, instrumented, run and compared, whatever framework it comes from."""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx

import onnx_xcam
from onnx_xcam.surgery import instrument_bytes
from tools.common.layers import middle_layer
from tools.common.matching import Match, matches
from tools.common.sessions import session

EMIT: tuple[Literal["map", "activations", "gradients"], ...] = ("map", "activations", "gradients")

LOOKED_INTO = 1e-4
"""Errors above are looked into for near-ties."""


ANOTHER_MODEL = 0.05
"""Outputs that are off by more, relative to the largest, are those of another model: the exporter's mistake."""


@dataclass(frozen=True)
class Found:
    """What ONNX Runtime gave: classes int64 [N,K], gradients float64 [N,K,...], activations [N,...]; and the layer."""

    at: Match
    classes: np.ndarray
    ours: np.ndarray
    activations: np.ndarray


class Comparison(ABC):
    """One model with random parameters, and what its own framework says about it.

    A framework's class sets the attributes and knows how to export and how to differentiate.

    Attributes:
        images: float32, as the model takes them, NCHW or NHWC.
        exact_logits, single_logits: [N,C] of passes in float64 and in float32.
        exact_tensors: the feature maps of the float64 pass, among which the layer is looked for.
        instrumented: the model that is being compared.
    """

    images: np.ndarray
    exact_logits: np.ndarray
    single_logits: np.ndarray
    exact_tensors: Sequence[np.ndarray]
    instrumented: bytes

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.name, self.folder, self.options = name, folder, options
        self.threads: int = options.threads
        self.known: dict[tuple[Match, bytes], tuple[np.ndarray, np.ndarray]] = {}

    @abstractmethod
    def export(self, path: Path, exporter: Any, batch: Any) -> None:
        """Write the model to `path`, its batch "static" or "dynamic"; raises what the exporter raises."""

    @abstractmethod
    def differentiate(self, at: Match, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """d score / d layer [N,K,...] in the layer's layout, in float64 and in float32, for the classes int64 [N,K]."""

    @abstractmethod
    def rounding(self, index: int) -> float:
        """How far the framework's own float32 values of a feature map are off, relative to the largest."""

    @abstractmethod
    def explained(self, found: Found, exact: np.ndarray) -> dict[str, Any]:
        """What is left of each image's error with near-ties out of the way ("rests"), and their number ("ties")."""

    def gradients(self, at: Match, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The framework's gradients in float64 and in float32; the same for every export that has this layer."""
        key = (at, classes.tobytes())
        if key not in self.known:
            self.known[key] = self.differentiate(at, classes)
        return self.known[key]

    def measure(self, exporter: Any, batch: Any, layer: str) -> dict[str, Any]:
        """Everything about one case; "failures" where it could not even be measured."""
        path, why_not = self._export(exporter, batch)
        if why_not is not None:
            return {"not_exported": why_not}
        try:
            tensor = "auto" if layer == "default" else middle_layer(path)
            if tensor is None:
                return {"not_exported": "there is no layer before the default one"}
            start = time.perf_counter()
            instrumented = self.instrumented = instrument_bytes(path, layers=tensor, emit=EMIT)
            seconds = time.perf_counter() - start
            about = {"seconds": seconds, "tail": len(instrumented) - path.stat().st_size, **describe(path, tensor)}
            if self.options.check == "yes" and batch == "dynamic":
                about.update(checked(path, tensor))
        except onnx_xcam.XcamError as error:
            return {"failures": [f"{type(error).__name__}: {error}"]}
        plain = self._run(path.read_bytes(), batch, None)
        off = self._exported_off(plain)
        if off > ANOTHER_MODEL:
            return {"not_exported": f"what the exporter wrote gives other logits than the model, off by {off:.0e}"}
        again = self._run(instrumented, batch, self._classes())
        cheap = self._run(instrument_bytes(path, layers=tensor, emit=("map",)), batch, None)
        return {**about, **compare_outputs(plain, again, cheap), **self._compare(again)}

    def _export(self, exporter: Any, batch: Any) -> tuple[Path, str | None]:
        """The exported file, and why there is none if the exporter gave up. That is kept beside it, too."""
        path = self.folder / f"{self.name.replace(':', '_')}_{exporter}_{batch}.onnx"
        refusal = path.with_suffix(".txt")
        if path.is_file() or refusal.is_file():
            return path, None if path.is_file() else refusal.read_text(encoding="utf-8")
        try:
            self.export(path, exporter, batch)
        except Exception as error:  # noqa: BLE001  whatever the exporter raises; it is printed and recorded
            path.unlink(missing_ok=True)
            refusal.write_text(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", encoding="utf-8")
            return self._export(exporter, batch)
        if self.options.slim == "yes":
            import onnxslim

            onnx.save(onnxslim.slim(onnx.load(path)), path)
        return path, None

    def _exported_off(self, plain: dict[str, np.ndarray]) -> float:
        """How far an exported model's outputs are from the framework's logits or probabilities, relative."""
        logits = self.exact_logits
        raised = np.exp(logits - logits.max(1, keepdims=True))
        wanted = [logits, raised / raised.sum(1, keepdims=True)]
        found = [out.reshape(logits.shape) for out in plain.values() if out.size == logits.size]
        return min((float(np.abs(a - b).max() / np.abs(b).max()) for a in found for b in wanted), default=0.0)

    def _classes(self) -> np.ndarray:
        """int64 [N,2]: each image's top class, and another one, different for each image."""
        ranked = self.exact_logits.argsort(1)
        others = [int(row[-2 - n * 7 % (len(row) - 1)]) for n, row in enumerate(ranked)]
        return np.array([[-1, other] for other in others])

    def _run(self, model: bytes, batch: str, classes: np.ndarray | None) -> dict[str, np.ndarray]:
        """All outputs on all images: in one batch where it is symbolic, image by image where it is static."""
        run = session(model, self.threads)
        names = [output.name for output in run.get_outputs()]
        image = run.get_inputs()[0].name
        step = len(self.images) if batch == "dynamic" else 1
        parts = []
        for start in range(0, len(self.images), step):
            feeds = {image: self.images[start : start + step]}
            if classes is not None:
                feeds["xcam_class"] = classes[start : start + step]
            parts.append(run.run(names, feeds))
        return {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}

    def _compare(self, found: dict[str, np.ndarray]) -> dict[str, Any]:
        """The gradients against autograd's, and whether the case is a test at all."""
        activations, ours = found["xcam_activations"], found["xcam_gradients"].astype(np.float64)
        close = matches(self.exact_tensors, activations)
        if not close:
            return {"failures": [f"no tensor of the framework has the layer's values, shape {list(activations.shape)}"]}
        classes = found["xcam_classes"]
        # Where several tensors hold the same values, ours is the gradient of one of them.
        gradients = [self.gradients(match, classes) for match in close]
        errors = [per_image(ours - exact, exact).max() for exact, _ in gradients]
        at, (exact, single) = close[int(np.argmin(errors))], gradients[int(np.argmin(errors))]
        logits = self.exact_logits
        largest = np.abs(logits).max()
        wrong = (classes[:, 0] != logits.argmax(1)) & (np.ptp(np.sort(logits, 1)[:, -2:], 1) > 1e-4 * largest)
        failures = ["the top class is another than the framework's"] if wrong.any() else []
        failures += map_failures(found["xcam_map"])
        strength = per_image(exact) * np.abs(activations).reshape(len(activations), -1).max(1) / largest
        return {
            "failures": failures,
            "errors": (per_image(ours - exact, exact)).tolist(),
            **self.explained(Found(at, classes, ours, activations), exact),
            "torch_errors": per_image(single - exact, exact).tolist(),
            "match": at.difference,
            "torch_match": self.rounding(at.index),
            "strength": float(strength.min()),
            "variation": variation(activations),
            "scores": float(np.abs(found["xcam_scores"] - np.take_along_axis(logits, classes, 1)).max() / largest),
            "torch_scores": float(np.abs(self.single_logits - logits).max() / largest),
        }


def per_image(values: np.ndarray, scale: np.ndarray | None = None) -> np.ndarray:
    """[N,K,...] -> [N]: the largest |value|, where a scale [N,K,...] is given in units of its largest; worst class."""
    largest = np.abs(values).reshape(*values.shape[:2], -1).max(2)
    if scale is None:
        return np.asarray(largest.min(1))
    unit = np.abs(scale).reshape(*largest.shape, -1).max(2)
    return np.asarray((largest / np.maximum(unit, 1e-300)).max(1))


def variation(activations: np.ndarray) -> float:
    """How far the channels are from constant maps: spatial deviation over root mean square, median over channels."""
    flat = activations.reshape(*activations.shape[:2], -1)
    return float(np.median(flat.std(2) / np.maximum(np.sqrt((flat**2).mean(2)), 1e-30)))


def compare_outputs(plain: dict[str, np.ndarray], *instrumented: dict[str, np.ndarray]) -> dict[str, Any]:
    """The original outputs of instrumented models against the original's: bit-equal, or relative to the largest."""
    worst, equal = 0.0, True
    for found in instrumented:
        for name, values in plain.items():
            equal = equal and values.tobytes() == found[name].tobytes()
            worst = max(worst, float(np.abs(found[name] - values).max() / np.abs(values).max()))
    return {"bit_equal": equal, "outputs": worst}


def map_failures(cam: np.ndarray) -> list[str]:
    """What is wrong with maps `[N,K,h,w]`, in words."""
    if not np.isfinite(cam).all():
        return ["the map is not finite"]
    flat = cam.reshape(*cam.shape[:2], -1)
    constant = (np.ptp(flat, axis=2) == 0) & (flat.max(2) > 0)
    return ["the map is constant"] if constant.any() or (flat.max(2) == 0).all() else []


def checked(path: Path, layer: str) -> dict[str, Any]:
    """What `check` says about a layer, and how long it takes."""
    start = time.perf_counter()
    report = onnx_xcam.check(path, layers=layer)
    seconds = time.perf_counter() - start
    bad = [f"check: {line}" for line in report.text().splitlines() if "FAIL" in line]
    return {"check": report.passed, "check_seconds": seconds, "check_said": bad[:5]}


def describe(path: Path, layer: str) -> dict[str, Any]:
    """Name, operator, shape and grid of the layer, how deep its node lies, 0 to 1, and what `inspect` took."""
    start = time.perf_counter()
    layers = onnx_xcam.inspect(path).layers
    seconds = time.perf_counter() - start
    chosen = next(known for known in layers if (known.default if layer == "auto" else known.name == layer))
    nodes = _nodes(path)
    depth = next((i for i, node in enumerate(nodes) if chosen.name in node.output), -1) / len(nodes)
    return {
        **{"name": chosen.name, "op": chosen.op, "path": chosen.path, "shape": chosen.shape, "grid": chosen.grid},
        **{"layout": chosen.layout, "depth": depth, "nodes": len(nodes), "inspect_seconds": seconds},
    }


def _nodes(path: Path) -> Any:
    return onnx.load(path, load_external_data=False).graph.node
