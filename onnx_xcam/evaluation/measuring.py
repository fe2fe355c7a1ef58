"""This module measures all maps of one recording: by the axioms, by perturbing the picture, and against the truth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.methods import find_method
from onnx_xcam.evaluation.axioms import errors_of
from onnx_xcam.evaluation.metrics import AXIOMS, CURVES, FAITHFULNESS, METRICS, TRUTH
from onnx_xcam.evaluation.objects import BASELINES, ObjectTruth, baseline, object_truth, score_object
from onnx_xcam.evaluation.perturbation import Background, Faithfulness, faithfulness
from onnx_xcam.evaluation.truth import Truth, score_against
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.places import boxes_in_photos
from onnx_xcam.explainer.recorder import Recorder
from onnx_xcam.explainer.recording import CutRecord, LayerRecord, Recording
from onnx_xcam.images.place import Placement
from onnx_xcam.labels import label_of
from onnx_xcam.records.evaluate import MapResult
from onnx_xcam.runtime import Cancellation

_DIGITS = 6

Known: TypeAlias = NDArray[np.bool_] | ObjectTruth | None
"""What the truth knows of a class or an object: the pixels of the class's objects, or what is known of the object."""


@dataclass(frozen=True)
class Measured:
    """A Measured holds a record's classes or objects and results; its lists are empty for a photo that failed.

    The fields are those of an `EvaluationRecord`; `objects` and `boxes` are None for a model without objects, and
    `annotated` also where no truth was given.
    """

    classes: list[int] = field(default_factory=list)
    labels: list[str | None] | None = None
    scores: list[float | None] = field(default_factory=list)
    probabilities: list[float | None] | None = None
    confidences: list[float | None] = field(default_factory=list)
    results: list[MapResult] = field(default_factory=list)
    objects: list[int] | None = None
    boxes: list[list[float] | None] | None = None
    annotated: list[bool | None] | None = None


@dataclass(frozen=True)
class Measuring:
    """A Measuring measures recordings; it may be called from several threads at once.

    Attributes:
        recorder: the model, for the confidences of changed pictures.
        metrics: the names of the metrics.
        steps, background: as for `perturbation.faithfulness`.
        truth: the objects in the photos, or None.
    """

    recorder: Recorder
    metrics: tuple[str, ...]
    steps: int
    background: Background
    truth: Truth | None

    @property
    def perturbed(self) -> frozenset[str]:
        """Return the metrics that are measured by perturbing the picture."""
        return frozenset(self._of_group(FAITHFULNESS))

    @property
    def baselines(self) -> tuple[str, ...]:
        """Return the names of the baselines, which only objects with known boxes have."""
        candidates = self.recorder.model.loaded.metadata.candidates
        return BASELINES if candidates is not None and candidates.boxes else ()

    def of(self, recording: Recording, image: Any, cancellation: Cancellation) -> Measured:
        """Measure the maps of a recording by all methods and baselines, without those of objects that are not there.

        Args:
            recording: the recording.
            image: the photo as it was given.
            cancellation: can end the runs from another thread.

        Raises:
            XcamError: what the metrics raise.
        """
        maps = _Maps(self, recording, image, cancellation)
        at = maps.columns
        confidences = recording.scores if recording.probabilities is None else recording.probabilities
        labels = None if recording.labels is None else [label_of(one, recording.labels) for one in maps.classes]
        results = [one for layer in recording.layers for one in (*maps.of_layer(layer), *maps.of_baselines(layer.name))]
        return Measured(
            classes=maps.classes,
            labels=labels,
            scores=rounded_all(recording.scores[at]),
            probabilities=None if recording.probabilities is None else rounded_all(recording.probabilities[at]),
            confidences=rounded_all(confidences[at]),
            results=results,
            objects=maps.objects,
            boxes=None if maps.objects is None else [maps.box(k) for k in at],
            annotated=maps.annotated if maps.objects is not None and self.truth is not None else None,
        )

    def wants(self, group: str) -> bool:
        """Tell whether a metric of a group is measured."""
        return bool(self._of_group(group))

    def _of_group(self, group: str) -> list[str]:
        return [name for name in self.metrics if METRICS[name].group == group]


class _Maps:
    """A _Maps holds what the maps of one recording share.

    Attributes:
        columns: which of the K classes or objects are there.
        classes: their classes.
        objects: their candidates, or None for a model without objects.
    """

    def __init__(self, measuring: Measuring, recording: Recording, image: Any, cancellation: Cancellation) -> None:
        self._measuring, self._recording, self._cancellation = measuring, recording, cancellation
        objects = recording.objects
        count = len(recording.classes)
        self.columns: list[int] = [k for k in range(count) if objects is None or objects[k] >= 0]
        self.classes: list[int] = recording.classes[self.columns].tolist()
        self.objects: list[int] | None = None if objects is None else objects[self.columns].tolist()
        self._boxes = boxes_in_photos(_of_one(recording.boxes), _of_one(objects), [recording.picture])
        self._image = image
        self._known: dict[int, Known] = {k: self._truth_of(k) for k in self.columns}
        self._of_baselines: list[MapResult] | None = None

    @property
    def annotated(self) -> list[bool | None]:
        """Tell of each object whether the truth has it; None where it says nothing of the photo."""
        truth, image = self._measuring.truth, self._image
        size = self._recording.picture.placement.photo
        there = truth is not None and isinstance(image, str | Path) and truth.annotation(image, size) is not None
        return [self._known[k] is not None if there else None for k in self.columns]

    def box(self, k: int) -> list[float] | None:
        """Return the box of the k-th object in the photo's pixels, rounded, or None where it is not known."""
        return None if self._boxes is None else [round(value, 3) for value in self._boxes[0, k].tolist()]

    def of_layer(self, layer: LayerRecord | CutRecord) -> list[MapResult]:
        """Measure the maps of a layer, by method and then by class or object."""
        methods = self._measuring.recorder.methods
        return self._results(layer.name, {method: layer.raw(method) for method in methods}, layer)

    def of_baselines(self, layer: str) -> list[MapResult]:
        """Return what is measured of the baselines, which are the same at every layer, under a layer's name."""
        if self._of_baselines is None:
            boxes, size = self._recording.boxes, self._recording.picture.placement.input
            names = () if boxes is None else self._measuring.baselines
            maps = {name: np.stack([baseline(name, box, size) for box in boxes]) for name in names}  # type: ignore[union-attr]
            self._of_baselines = [{**one, "baseline": True} for one in self._results(layer, maps, None)]
        return [{**one, "layer": layer} for one in self._of_baselines]

    def _results(
        self, name: str, raw: Mapping[str, NDArray[np.float32]], layer: LayerRecord | CutRecord | None
    ) -> list[MapResult]:
        """Measure maps [K,h,w] by several methods, or of several baselines where there is no layer."""
        faithful = iter(self._faithful(raw))
        results = []
        for method, maps in raw.items():
            axioms = {} if layer is None else self._axioms(layer, method)
            for k in self.columns:
                metrics = {key: None if values is None else float(values[k]) for key, values in axioms.items()}
                metrics |= _agreement(self._recording.picture, maps[k], self._known[k])
                one = next(faithful, None) or Faithfulness({})
                results.append(self._result(name, method, k, {**metrics, **one.metrics}, one.curves))
        return results

    def _result(
        self, layer: str, method: str, k: int, metrics: Mapping[str, float | None], curves: Mapping[str, list[float]]
    ) -> MapResult:
        result: MapResult = {
            "layer": layer,
            "method": method,
            "class": int(self._recording.classes[k]),
            "metrics": {name: rounded(metrics.get(name)) for name in self._measuring.metrics},
            "curves": {name: [rounded(v) for v in curves[name]] for name in CURVES if name in curves},
        }
        if self._recording.objects is not None:
            result["object"], result["box"] = int(self._recording.objects[k]), self.box(k)
        return result

    def _faithful(self, raw: Mapping[str, NDArray[np.float32]]) -> Sequence[Faithfulness]:
        """Measure the faithfulness of maps in shared batches; empty if no such metric is asked for."""
        measuring, recording = self._measuring, self._recording
        if not measuring.perturbed or not raw or not self.columns:
            return ()
        size = recording.picture.placement.input
        whole = Placement(photo=size, input=size, scaled=size)
        recorder = measuring.recorder
        return faithfulness(
            lambda batch: recorder.confidences(batch, recording.cells, self._cancellation),
            recording.picture.item,
            np.stack([whole.place(maps[k]) for maps in raw.values() for k in self.columns]),
            self.columns * len(raw),
            channels_last=recorder.channels_last,
            metrics=measuring.perturbed,
            steps=measuring.steps,
            background=measuring.background,
        )

    def _axioms(self, layer: LayerRecord | CutRecord, method: str) -> dict[str, NDArray[np.float64] | None]:
        """Return the errors of the axioms by name, [K] each, if they are asked for and the method has shares."""
        if not self._measuring.wants(AXIOMS) or find_method(method).is_guided:
            return {}
        errors = errors_of(layer, method)
        return {name: getattr(errors, name) for name, metric in METRICS.items() if metric.group == AXIOMS}

    def _truth_of(self, k: int) -> Known:
        """Return what the truth knows of the k-th class or object, None where that is nothing or is not needed."""
        truth, image, recording = self._measuring.truth, self._image, self._recording
        if truth is None or not self._measuring.wants(TRUTH) or not isinstance(image, str | Path):
            return None
        class_id = int(recording.classes[k])
        label = None if recording.labels is None else label_of(class_id, recording.labels)
        size = recording.picture.placement.photo
        if recording.objects is None:
            return truth.of(image, size, class_id=class_id, label=label)
        assert self._boxes is not None  # the Evaluator takes no truth for objects without boxes
        return object_truth(truth, image, size, self._boxes[0, k], class_id=class_id, label=label)


def _agreement(picture: Picture, raw: NDArray[np.float32], known: Known) -> dict[str, float | None]:
    """Return the metrics of the group "truth" of a map; none where nothing is known, or the map is not finite."""
    if known is None or not np.isfinite(raw).all():
        return {}
    heatmap = picture.placement.heatmap(np.maximum(raw, 0))
    if isinstance(known, ObjectTruth):
        return {**score_object(heatmap, known)}
    score = score_against(heatmap, known)
    return {
        "pointing": float(score.hit),
        "pointing_centre": float(score.centre_hit),
        "energy": score.energy,
        "object_share": score.object_share,
    }


def _of_one(values: NDArray[Any] | None) -> NDArray[Any] | None:
    """Return the values of one image with an axis of images, or None."""
    return None if values is None else values[None]


def rounded_all(values: NDArray[np.float32]) -> list[float | None]:
    """Round values, None for one that is not finite."""
    return [rounded(one) for one in values.tolist()]


def rounded(value: float | None) -> float | None:
    """Round a value to six digits; None if it is not finite, because JSON has neither NaN nor infinity."""
    return float(f"{value:.{_DIGITS}g}") if value is not None and math.isfinite(value) else None
