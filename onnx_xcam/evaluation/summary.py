"""A summary of an evaluation's records: means and spreads for each layer and method."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from onnx_xcam.evaluation.metrics import CURVES, METRICS
from onnx_xcam.records.evaluate import (
    SUMMARY_VERSION,
    Confidence,
    EvaluateLine,
    EvaluationRecord,
    Figures,
    MapResult,
    RowFigures,
    Summary,
)


@dataclass
class _Figures:
    """Count, mean and spread of numbers that come one by one (Welford's way), so that none of them is kept."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def take(self, value: float) -> None:
        """One number more."""
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        self.squares += before * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def told(self) -> Figures:
        """As the summary has it."""
        if not self.count:
            return {"count": 0, "mean": None, "std": None, "min": None, "max": None}
        spread = math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None
        return {"count": self.count, "mean": self.mean, "std": spread, "min": self.low, "max": self.high}


@dataclass
class _Row:
    """One layer and method."""

    metrics: dict[str, _Figures]
    maps: int = 0
    curves: dict[str, list[_Figures]] = field(default_factory=dict)

    def take(self, result: MapResult) -> None:
        """One map more; of a curve, only if it has a value everywhere."""
        self.maps += 1
        for name, value in result["metrics"].items():
            if value is not None:
                self.metrics[name].take(value)
        for name, values in result["curves"].items():
            known = [value for value in values if value is not None]
            if len(known) == len(values):
                points = self.curves.setdefault(name, [_Figures() for _ in known])
                for point, value in zip(points, known, strict=True):
                    point.take(value)

    def told(self) -> RowFigures:
        """As the summary has it."""
        return {
            "metrics": {name: figures.told() for name, figures in self.metrics.items()},
            "curves": {
                name: {"count": points[0].count, "mean": [point.mean for point in points]}
                for name, points in self.curves.items()
            },
        }


def summarise(
    records: Iterable[EvaluationRecord | EvaluateLine],
    *,
    model: str,
    layers: Sequence[str],
    methods: Sequence[str],
    metrics: Sequence[str],
    confidence: Confidence,
    notes: Sequence[str] = (),
    warnings: Sequence[str] = (),
    settings: Mapping[str, str | list[str]] | None = None,
    command: str | None = None,
) -> Summary:
    """The summary of records, which are taken one by one.

    Args:
        records: of images.
        model: its name.
        layers, methods, metrics: in the order in which the summary has them.
        confidence: "probability" or "score".
        notes, warnings: of the evaluator and its recorder.
        settings: how all records were made.
        command: the command line.
    """
    rows = {(layer, method): _Row({name: _Figures() for name in metrics}) for layer in layers for method in methods}
    images = failed = 0
    seconds = 0.0
    for record in records:
        images += 1
        failed += record["error"] is not None
        seconds += record["seconds"] or 0.0
        for result in record["results"]:
            rows[result["layer"], result["method"]].take(result)
    curves = [curve for curve in CURVES.values() if any(curve.name in row.curves for row in rows.values())]
    return {
        "version": SUMMARY_VERSION,
        "model": model,
        "images": images,
        "failed": failed,
        "maps": max((row.maps for row in rows.values()), default=0),
        "layers": list(layers),
        "methods": list(methods),
        "confidence": confidence,
        "metrics": [METRICS[name].told() for name in metrics],
        "curves": [curve.told() for curve in curves],
        "rows": [{"layer": layer, "method": method, **row.told()} for (layer, method), row in rows.items()],
        "notes": list(notes),
        "warnings": list(warnings),
        "seconds": round(seconds, 3),
        "settings": dict(settings or {}),
        "command": command,
    }
