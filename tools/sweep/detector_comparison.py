"""One detector is exported, instrumented, run and compared with what its own framework says. Needs torch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch

from onnx_xcam.metadata import Metadata
from onnx_xcam.surgery import instrument_bytes
from tools.common.matching import Match
from tools.common.sessions import session
from tools.sweep import detector_truth
from tools.sweep.detector_case import Detector
from tools.sweep.detector_truth import Objects

EMIT: tuple[Literal["map", "activations", "gradients", "status"], ...] = ("map", "activations", "gradients", "status")
MORE = 3
"""More objects are asked for than there are, by so many."""
EXACT = 1e-4
"""The share of a gradient within this is told."""


class Comparison:
    """One detector, its file, and the two side by side."""

    def __init__(self, detector: Detector, exporter: Any, folder: Path, threads: int) -> None:
        self.detector, self.threads = detector, threads
        path = folder / "detector.onnx"
        detector.export(path, exporter)
        self.plain = path.read_bytes()
        self.exact = detector_truth.passed(detector, torch.float64)
        self.side = float(detector.image.shape[-1])

    def measure(self) -> dict[str, Any]:
        """What was measured, as `tools.sweep.detectors` judges it."""
        start = time.perf_counter()
        instrumented = instrument_bytes(self.plain, emit=EMIT)
        seconds = time.perf_counter() - start
        self.model = session(instrumented, self.threads)
        plain = session(self.plain, self.threads)
        names = [one.name for one in plain.get_inputs()]
        self.feeds = {names[0]: self.detector.image, **self.detector.further()}
        outputs = [one.name for one in plain.get_outputs()]
        given = dict(zip(outputs, plain.run(outputs, self.feeds), strict=True))
        objects = self._by_hand(given)
        metadata = Metadata.from_props(
            {one.key: one.value for one in onnx.load_from_string(instrumented).metadata_props}, "detector.onnx"
        )
        return {
            **self._same_outputs(given),
            **self._objects(objects),
            **self._gradients(objects, list(metadata.layers)),
            "form": metadata.candidates.form if metadata.candidates else metadata.task,
            "seconds": seconds,
        }

    def _by_hand(self, given: dict[str, np.ndarray]) -> Objects:
        """The objects: of the table by non-maximum suppression, or those that the file itself has picked."""
        if self.detector.picks == "rows":
            return detector_truth.of_rows(self.detector.rows(given))
        return detector_truth.kept(self.exact.table, overlapping=self.detector.picks == "queries")

    def _run(self, outputs: list[str], objects: np.ndarray, classes: np.ndarray | None = None) -> list[np.ndarray]:
        """Outputs of the instrumented model for these objects [K], and classes [K] if given."""
        feeds = {**self.feeds, "xcam_object": objects[None].astype(np.int64)}
        if classes is not None:
            feeds["xcam_class"] = classes[None].astype(np.int64)
        values: list[np.ndarray] = self.model.run(outputs, feeds)
        return values

    def _same_outputs(self, given: dict[str, np.ndarray]) -> dict[str, Any]:
        """How far the original outputs are off in the instrumented model, and in the plain one without optimisations.

        What ONNX Runtime fuses depends on which tensors are outputs; rounding differs with it.
        """
        again = self._run(list(given), np.array([-1]))
        pairs = list(zip(given.values(), again, strict=True))
        equal = all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)
        off = 0.0 if equal else max(_off(b, a) for a, b in pairs)
        unfused = session(self.plain, self.threads, optimised=False).run(list(given), self.feeds)
        noise = max(_off(b, a) for a, b in zip(given.values(), unfused, strict=True))
        return {"outputs": off, "bit_equal": equal, "noise": noise}

    def _objects(self, wanted: Objects) -> dict[str, Any]:
        """How the objects that the model keeps differ from those by hand."""
        count = len(wanted.classes)
        ranks = -1 - np.arange(count + MORE)
        has_boxes = "xcam_boxes" in {one.name for one in self.model.get_outputs()}
        names = ["xcam_objects", "xcam_classes", "xcam_probabilities", "xcam_status", *["xcam_boxes"] * has_boxes]
        found = [values[0] for values in self._run(names, ranks)]
        there = found[0] >= 0
        ours = {(int(q), int(c)): n for n, (q, c) in enumerate(zip(found[0], found[1], strict=True)) if q >= 0}
        theirs = {(int(q), int(c)): n for n, (q, c) in enumerate(zip(wanted.candidates, wanted.classes, strict=True))}
        both = [(ours[cell], theirs[cell]) for cell in ours.keys() & theirs.keys()]
        boxes = [np.abs(found[4][a] - wanted.boxes[b]).max() for a, b in both] if has_boxes else []
        return {
            "kept": count,
            "missing": len(theirs.keys() - ours.keys()),
            "extra": len(ours.keys() - theirs.keys()),
            "margin": wanted.margin,
            "unsaid": int((found[3][~there] != 4).sum()),
            "probabilities": max((abs(float(found[2][a] - wanted.probabilities[b])) for a, b in both), default=0.0),
            "boxes": float(max(boxes, default=0.0)) / self.side if has_boxes else None,
        }

    def _cells(self, objects: Objects) -> tuple[np.ndarray, np.ndarray, float]:
        """Cells to explain: the best object, the one whose candidate is farthest from its, and one of a low score.

        Returns:
            int64 [K,2]: what the model takes for the object, and the class; int64 [K,2]: the framework's candidate, and
            the class; and how far off the box and probability of a row are from its candidate's.
        """
        if self.detector.picks == "rows":
            found = [
                detector_truth.cell_of_row(self.exact.table, objects, n, self.side) for n in range(len(objects.classes))
            ]
            candidates = np.array([candidate for candidate, _ in found])
        else:
            found, candidates = [], objects.candidates
        chosen = [0, int(np.abs(candidates - candidates[0]).argmax()), len(candidates) - 1]
        asked = np.stack([objects.candidates[chosen], objects.classes[chosen]], 1)
        cells = np.stack([candidates[chosen], objects.classes[chosen]], 1)
        if self.detector.picks != "rows":
            best = self.exact.table.probabilities.detach().numpy().max(1)
            low = int(np.argsort(-best)[len(best) // 5])
            of_class = int(self.exact.table.probabilities[low].argmax())
            asked[2] = cells[2] = low, of_class
        return asked, cells, max((found[n][1] for n in chosen if found), default=0.0)

    def _gradients(self, objects: Objects, layers: list[str]) -> dict[str, Any]:
        """How far scores and gradients are off, and what the framework's own float32 autograd is off by."""
        if not len(objects.classes):
            raise SystemExit("no object is above the threshold: another seed, please")
        asked, cells, row_off = self._cells(objects)
        kinds = [
            name + (f"_{n}" if n else "") for name in ("xcam_activations", "xcam_gradients") for n in range(len(layers))
        ]
        found = self._run(["xcam_scores", *kinds], asked[:, 0], asked[:, 1])
        activations, ours = found[1 : 1 + len(layers)], [one[0] for one in found[1 + len(layers) :]]
        at = detector_truth.members(self.exact, activations)
        told: dict[str, Any] = {
            "layers": layers,
            "row": row_off,
            "not_found": [n for n, m in zip(layers, at, strict=True) if m is None],
        }
        if told["not_found"]:
            return told
        wanted = self.exact.table.scores.detach().numpy()[cells[:, 0], cells[:, 1]]
        matched = [one for one in at if one is not None]
        exact = detector_truth.gradients(self.detector, torch.float64, matched, cells)
        scale = np.max([np.abs(g).reshape(len(cells), -1).max(1) for g in exact], 0)
        differences = [_per_cell(np.abs(a - b), scale) for a, b in zip(ours, exact, strict=True)]
        return {
            **told,
            "match": max(one.difference for one in matched),
            "scores": float(np.abs(found[0][0] - wanted).max() / max(1.0, float(np.abs(wanted).max()))),
            "strength": float(scale.min()),
            "errors": [float(d.max()) for d in differences],
            "shares": [float((d <= EXACT).mean()) for d in differences],
            "torch_errors": self._single(matched, cells, exact, scale),
        }

    def _single(
        self, at: list[Match], cells: np.ndarray, exact: list[np.ndarray], scale: np.ndarray
    ) -> list[float] | None:
        """What float32 autograd is off by; None where it finds other candidates, as with regions that it picks."""
        single = detector_truth.passed(self.detector, torch.float32)
        if len(single.tensors) != len(self.exact.tensors):
            return None
        a, b = (one.table.boxes.detach().numpy() for one in (single, self.exact))
        if a.shape != b.shape or np.abs(a - b).max() > 1e-2 * self.side:
            return None
        found = detector_truth.gradients(self.detector, torch.float32, at, cells)
        return [float(_per_cell(np.abs(a - b), scale).max()) for a, b in zip(found, exact, strict=True)]


def _per_cell(difference: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Differences [K,...] relative to the largest gradient [K] of each cell, over all members."""
    relative: np.ndarray = difference / scale.reshape(-1, *[1] * (difference.ndim - 1))
    return relative


def _off(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to the largest value; infinite where the shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    wide = theirs.astype(np.float64)
    return float(np.abs(ours.astype(np.float64) - wide).max(initial=0) / max(float(np.abs(wide).max(initial=0)), 1e-12))
