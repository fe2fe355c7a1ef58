"""What an evaluation says, made up: records and a summary in the form of `onnx_xcam.evaluation.records`."""

from __future__ import annotations

from typing import Any

import numpy as np

LAYERS = ["/_blocks.7/Add_output_0", "/_swish_1/Clip_output_0"]
METHODS = ["xgrad-cam", "grad-cam", "grad-cam++", "layercam"]
METRICS = [
    ("insertion", "Insertion", "higher", "Area under the confidence while the map's best pixels are put in."),
    ("deletion", "Deletion", "lower", "The same while they are taken out."),
    ("conservation", "Conservation error", "lower", "|S - sum of shares| / sum of |shares|."),
    ("sensitivity", "Sensitivity error", "lower", "How far the shares are from what the score loses."),
]
CURVES = [("insertion", "Insertion", "share of pixels put in"), ("deletion", "Deletion", "share of pixels taken out")]
STEPS = 11


def made(images: int = 20, *, seed: int = 0, failed: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(summary, records) of so many images; the last `failed` of them could not be evaluated."""
    random = np.random.default_rng(seed)
    records = [_record(n, random) for n in range(images - failed)]
    for n in range(images - failed, images):
        nothing = {"layer": LAYERS, "method": METHODS, "classes": [], "labels": None, "scores": [], "results": []}
        error = f"photos/{n:03}.png: the file is empty (0 bytes)"
        records.append({"image": f"photos/{n:03}.png", **nothing, "confidences": [], "error": error})
    return _summary(records, images, failed), records


def _record(n: int, random: np.random.Generator) -> dict[str, Any]:
    results = []
    for depth, layer in enumerate(LAYERS):
        for m, method in enumerate(METHODS):
            metrics: dict[str, float | None] = {
                "insertion": float(random.beta(6 - m + depth, 4)),
                "deletion": float(random.beta(2 + m, 8)),
                "conservation": 0.0 if m == 0 else float(random.lognormal(-2 + 0.4 * m, 0.6)),
                "sensitivity": None if n == 3 else float(random.lognormal(-3 + 0.5 * m, 0.8)),
            }
            rise = np.linspace(0, 1, STEPS) ** (0.5 + 0.4 * m) * random.uniform(0.5, 1)
            curves = {"insertion": rise.tolist(), "deletion": rise[::-1].tolist()}
            results.append({"layer": layer, "method": method, "class": 282, "metrics": metrics, "curves": curves})
    confidence = float(random.uniform(0.1, 1))
    known = {"classes": [282], "labels": ["tiger cat"], "confidences": [confidence], "results": results}
    return {"image": f"photos/{n:03}.png", "layer": LAYERS, "method": METHODS, **known, "error": None}


def _summary(records: list[dict[str, Any]], images: int, failed: int) -> dict[str, Any]:
    rows = []
    for layer in LAYERS:
        for method in METHODS:
            found = [r for one in records for r in one["results"] if (r["layer"], r["method"]) == (layer, method)]
            metrics = {}
            for name, *_ in METRICS:
                values = [r["metrics"][name] for r in found if r["metrics"][name] is not None]
                figures = {"mean": np.mean, "min": np.min, "max": np.max}
                metrics[name] = {
                    "count": len(values),
                    "std": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                }
                metrics[name] |= {key: float(make(values)) if values else None for key, make in figures.items()}
            curves = {
                name: {"count": len(found), "mean": np.mean([r["curves"][name] for r in found], axis=0).tolist()}
                for name, *_ in CURVES
                if found
            }
            rows.append({"layer": layer, "method": method, "metrics": metrics, "curves": curves})
    return {
        "version": 1,
        "model": "models/efficientnet_lite0.onnx",
        "images": images,
        "failed": failed,
        "maps": images - failed,
        "layers": LAYERS,
        "methods": METHODS,
        "confidence": "probability",
        "metrics": [dict(zip(("name", "title", "better", "text"), one, strict=True)) for one in METRICS],
        "curves": [dict(zip(("name", "title", "x"), one, strict=True), **{"from": 0.0, "to": 1.0}) for one in CURVES],
        "rows": rows,
        "notes": ["Score: output 'logits'."],
        "warnings": [],
        "seconds": 40.1,
        "settings": {"score": "logits"},
        "command": "onnx-xcam evaluate models/efficientnet_lite0.onnx photos --html evaluation.html",
    }
