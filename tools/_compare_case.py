"""What `sweep.py` does for one model of PyTorch: export, instrument, run, ask autograd for the same gradient."""

from __future__ import annotations

import argparse
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import _autograd
import _torch_models
import numpy as np
import onnx
import torch
from _autograd import Forward, Match
from _kinks import Explanation, NearTies, Tie, moves
from _layers import middle_layer
from _sessions import session

import onnx_xcam
from onnx_xcam.surgery import instrument_bytes

LOOKED_INTO, EXPLAINED = 1e-4, 1e-5
"""Errors above the one are looked into for near-ties, until what is left is below the other."""
LOOKED_AT = (6, 16, 40)
"""How many of an image's closest near-ties are tried, step by step."""
EMIT: tuple[Literal["map", "activations", "gradients"], ...] = ("map", "activations", "gradients")


@dataclass(frozen=True)
class Found:
    """What ONNX Runtime gave: classes int64 [N,K], gradients float64 [N,K,...], activations [N,...]; and the layer."""

    at: Match
    classes: np.ndarray
    ours: np.ndarray
    activations: np.ndarray


class Comparison:
    """One model with random parameters, and what PyTorch says about it."""

    def __init__(self, name: str, options: argparse.Namespace, folder: Path) -> None:
        self.name, self.folder, self.options = name, folder, options
        self.threads: int = options.threads
        self.model = _torch_models.build(name, options.seed)
        self.images = _torch_models.test_images(name, options.images, options.seed)
        _torch_models.randomise(self.model, self.images, options.seed)
        self.exact = _autograd.forward(self.model, self.images, torch.float64)
        self.single = _autograd.forward(self.model, self.images, torch.float32)
        if len(self.exact.tensors) != len(self.single.tensors):
            raise SystemExit(f"{name} takes another way in float64 than in float32")
        self.known: dict[tuple[Match, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self.moved: dict[tuple[int, bytes, int, tuple[Tie, ...]], np.ndarray] = {}

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
            instrumented = instrument_bytes(path, layers=tensor, emit=EMIT)
            seconds = time.perf_counter() - start
            about = {"seconds": seconds, "tail": len(instrumented) - path.stat().st_size, **describe(path, tensor)}
            if self.options.check == "yes" and batch == "dynamic":
                about.update(checked(path, tensor))
        except onnx_xcam.XcamError as error:
            return {"failures": [f"{type(error).__name__}: {error}"]}
        plain = self._run(path.read_bytes(), batch, None)
        again = self._run(instrumented, batch, self._classes())
        cheap = self._run(instrument_bytes(path, layers=tensor, emit=("map",)), batch, None)
        return {**about, **compare_outputs(plain, again, cheap), **self._compare(again)}

    def _export(self, exporter: Any, batch: Any) -> tuple[Path, str | None]:
        """The exported file, and why there is none if PyTorch's exporter gave up. That is kept beside it, too."""
        path = self.folder / f"{self.name.replace(':', '_')}_{exporter}_{batch}.onnx"
        refusal = path.with_suffix(".txt")
        if path.is_file() or refusal.is_file():
            return path, None if path.is_file() else refusal.read_text(encoding="utf-8")
        try:
            _torch_models.export(self.model, _torch_models.image_size(self.name), path, exporter, batch)
        except Exception as error:  # noqa: BLE001  whatever the exporter raises; it is printed and recorded
            path.unlink(missing_ok=True)
            refusal.write_text(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", encoding="utf-8")
            return self._export(exporter, batch)
        if self.options.slim == "yes":
            import onnxslim

            onnx.save(onnxslim.slim(onnx.load(path)), path)
        return path, None

    def _classes(self) -> np.ndarray:
        """int64 [N,2]: each image's top class, and another one, different for each image."""
        other = self.exact.logits.detach().argsort(1)[:, -2 - np.arange(len(self.images)) * 7]
        return np.array([[-1, int(other[n, n])] for n in range(len(self.images))])

    def _run(self, model: bytes, batch: str, classes: np.ndarray | None) -> dict[str, np.ndarray]:
        """All outputs on all images: in one batch where it is symbolic, image by image where it is static."""
        run = session(model, self.threads)
        names = [output.name for output in run.get_outputs()]
        step = len(self.images) if batch == "dynamic" else 1
        parts = []
        for start in range(0, len(self.images), step):
            feeds = {"image": self.images[start : start + step]}
            if classes is not None:
                feeds["xcam_class"] = classes[start : start + step]
            parts.append(run.run(names, feeds))
        return {name: np.concatenate(values) for name, values in zip(names, zip(*parts, strict=True), strict=True)}

    def _compare(self, found: dict[str, np.ndarray]) -> dict[str, Any]:
        """The gradients against autograd's, and whether the case is a test at all."""
        activations, ours = found["xcam_activations"], found["xcam_gradients"].astype(np.float64)
        matches = _autograd.matches(self.exact, activations)
        if not matches:
            return {"failures": [f"no tensor of PyTorch has the layer's values, shape {list(activations.shape)}"]}
        classes = found["xcam_classes"]
        # Where several tensors hold the same values, ours is the gradient of one of them.
        gradients = [self._gradients(match, classes) for match in matches]
        errors = [per_image(ours - exact, exact).max() for exact, _ in gradients]
        at, (exact, single) = matches[int(np.argmin(errors))], gradients[int(np.argmin(errors))]
        logits = self.exact.logits.detach().numpy()
        largest = np.abs(logits).max()
        wrong = (classes[:, 0] != logits.argmax(1)) & (np.ptp(np.sort(logits, 1)[:, -2:], 1) > 1e-4 * largest)
        failures = ["the top class is another than PyTorch's"] if wrong.any() else []
        failures += map_failures(found["xcam_map"])
        strength = per_image(exact) * np.abs(activations).reshape(len(activations), -1).max(1) / largest
        return {
            "failures": failures,
            "errors": (per_image(ours - exact, exact)).tolist(),
            **self._explained(Found(at, classes, ours, activations), exact),
            "torch_errors": per_image(single - exact, exact).tolist(),
            "match": at.difference,
            "torch_match": self._rounding(at.index),
            "strength": float(strength.min()),
            "variation": variation(activations),
            "scores": float(np.abs(found["xcam_scores"] - np.take_along_axis(logits, classes, 1)).max() / largest),
            "torch_scores": float(np.abs(self.single.logits.detach().numpy() - logits).max() / largest),
        }

    def _rounding(self, index: int) -> float:
        """How far PyTorch's own float32 values of a feature map are off, relative to the largest."""
        exact, single = self.exact.tensors[index].detach(), self.single.tensors[index].detach()
        return float((single - exact).abs().max() / exact.abs().max())

    def _gradients(self, at: Match, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Autograd's in float64 and in float32; the same for every export that has this layer."""
        key = (at, classes.tobytes())
        if key not in self.known:
            both: list[Forward] = [self.exact, self.single]
            exact, single = (_autograd.gradient(found, at, classes) for found in both)
            self.known[key] = exact, single
        return self.known[key]

    def _explained(self, found: Found, exact: np.ndarray) -> dict[str, Any]:
        """What is left of each image's error where PyTorch starts from the activations that ONNX Runtime had, with
        near-ties behind them decided as ONNX Runtime did; and how many that takes.
        """
        rests, counts = per_image(found.ours - exact, exact), [0] * len(exact)
        for n in np.flatnonzero(rests > LOOKED_INTO).tolist():
            smallest = np.abs(exact[n]).reshape(len(exact[n]), -1).max(1).min()
            best = self._explanation(found, n, EXPLAINED * float(smallest))
            rests[n], counts[n] = per_image(best.rest[None], exact[n][None])[0], len(best.ties)
        return {"rests": rests.tolist(), "ties": counts}

    def _explanation(self, found: Found, image: int, enough: float) -> Explanation:
        """The near-ties that explain an image's difference, looked for until what is left is `enough`."""
        again = functools.partial(self._difference, found, image)
        best = Explanation(again([]), [])
        if np.abs(best.rest).max() <= enough:
            return best
        known = self._near_ties(found, image)
        for count in LOOKED_AT:
            known.look(count)
            best = known.explain(best, again)
            if np.abs(best.rest).max() <= enough:
                return best
        return known.explain_masked(best, again, enough)

    def _near_ties(self, found: Found, image: int) -> NearTies:
        at, passed = found.at, self._pass(found, image, [])
        return NearTies(
            *(passed.kinks, self.single.kinks, image, at.index),
            layer=passed.tensors[at.index],
            arrange=at.to_layer,
            scores=passed.logits[0, torch.from_numpy(found.classes[image])],
        )

    def _pass(self, found: Found, image: int, ties: list[Tie]) -> Forward:
        """A float64 pass on one image from ONNX Runtime's own activations of the layer, with these near-ties behind it
        decided the other way.
        """
        at, one = found.at, slice(image, image + 1)
        values = at.from_layer(torch.from_numpy(found.activations[one]).double(), self.exact.tensors[at.index])
        # The moves come behind the layer, which keeps its place among the feature maps.
        return _autograd.forward(
            self.model, self.images[one], torch.float64, moves=moves(ties), given=(at.index, values)
        )

    def _difference(self, found: Found, image: int, ties: list[Tie]) -> np.ndarray:
        """An image's difference [K,...] from autograd on such a pass."""
        classes = found.classes[image : image + 1]
        key = (found.at.index, classes.tobytes() + found.activations[image].tobytes(), image, tuple(ties))
        if key not in self.moved:
            self.moved[key] = _autograd.gradient(self._pass(found, image, ties), found.at, classes)[0]
        return found.ours[image] - self.moved[key]


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
