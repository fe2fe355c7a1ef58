"""This module summarises the records of an evaluation: means and standard deviations for each layer and method."""

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
    ObjectCounts,
    RowFigures,
    Summary,
    SummaryRow,
)


@dataclass
class _Figures:
    """A _Figures object updates count, mean and variance number by number (Welford's algorithm) and keeps none."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def take(self, value: float) -> None:
        """Add a number."""
        self.count += 1
        before = value - self.mean
        self.mean += before / self.count
        self.squares += before * (value - self.mean)
        self.low, self.high = min(self.low, value), max(self.high, value)

    def to_record(self) -> Figures:
        """Return the figures as the summary holds them."""
        if not self.count:
            return {"count": 0, "mean": None, "std": None, "min": None, "max": None}
        deviation = math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None
        return {"count": self.count, "mean": self.mean, "std": deviation, "min": self.low, "max": self.high}


@dataclass
class _Row:
    """A _Row collects the figures of the maps at one layer by one method."""

    metrics: dict[str, _Figures]
    is_baseline: bool = False
    maps: int = 0
    curves: dict[str, list[_Figures]] = field(default_factory=dict)

    def take(self, result: MapResult) -> None:
        """Add the metrics of one map, and those of its curves that have a value at every point."""
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

    def to_record(self) -> RowFigures:
        """Return the metrics and curves as the summary holds them."""
        return {
            "metrics": {name: figures.to_record() for name, figures in self.metrics.items()},
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
    baselines: Sequence[str] = (),
    of_objects: bool = False,
) -> Summary:
    """Summarise records, which are read one by one.

    Args:
        records: the records of the images.
        model: the name of the model.
        layers, methods, metrics: the names, in the order in which the summary lists them.
        confidence: whether the confidences are probabilities or scores.
        notes, warnings: the notes and warnings of the evaluator and its recorder.
        settings: the settings with which all records were made.
        command: the command line.
        baselines: the names of the baselines, whose rows follow those of the methods at each layer.
        of_objects: whether the model is one of objects, which are counted then.
    """
    rows = {
        (layer, name): _Row({metric: _Figures() for metric in metrics}, is_baseline=name in baselines)
        for layer in layers
        for name in (*methods, *baselines)
    }
    counts: ObjectCounts = {"explained": 0, "not_annotated": 0, "photos_without": 0}
    images = failed = 0
    seconds = 0.0
    for record in records:
        images += 1
        failed += record["error"] is not None
        seconds += record["seconds"] or 0.0
        if record["error"] is None:
            there = len(record.get("objects", ()))
            counts["explained"] += there
            counts["photos_without"] += not there
            counts["not_annotated"] += sum(one is False for one in record.get("annotated", ()))
        for result in record["results"]:
            rows[result["layer"], result["method"]].take(result)
    curves = [curve for curve in CURVES.values() if any(curve.name in row.curves for row in rows.values())]
    summary: Summary = {
        "version": SUMMARY_VERSION,
        "model": model,
        "images": images,
        "failed": failed,
        "maps": max((row.maps for row in rows.values()), default=0),
        "layers": list(layers),
        "methods": list(methods),
        "confidence": confidence,
        "metrics": [METRICS[name].to_record() for name in metrics],
        "curves": [curve.to_record() for curve in curves],
        "rows": [_row(layer, method, row) for (layer, method), row in rows.items()],
        "notes": list(notes),
        "warnings": list(warnings),
        "seconds": round(seconds, 3),
        "settings": dict(settings or {}),
        "command": command,
    }
    if of_objects:
        summary["baselines"], summary["objects"] = list(baselines), counts
    return summary


def _row(layer: str, method: str, row: _Row) -> SummaryRow:
    """Return a row as the summary holds it; only that of a baseline says that it is one."""
    figures = row.to_record()
    record: SummaryRow = {
        "layer": layer,
        "method": method,
        "metrics": figures["metrics"],
        "curves": figures["curves"],
    }
    if row.is_baseline:
        record["baseline"] = True
    return record
