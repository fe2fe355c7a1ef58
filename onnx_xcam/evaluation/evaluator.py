"""This module measures the maps of several methods and layers, photo by photo."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.cams.methods import find_method
from onnx_xcam.common.arguments import one_of, short_repr, whole
from onnx_xcam.errors import ImageError, InputError, ModelError, PreprocessError, TruthError, XcamError
from onnx_xcam.evaluation.axioms import AxiomErrors, errors_of
from onnx_xcam.evaluation.metrics import AXIOMS, CURVES, DEFAULT_GROUPS, METRICS, TRUTH, find_metrics
from onnx_xcam.evaluation.perturbation import STEPS, Background, faithfulness
from onnx_xcam.evaluation.truth import Truth, score_against
from onnx_xcam.explainer import Picture
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.model import Image, require_images
from onnx_xcam.explainer.recorder import Recorded, Recorder
from onnx_xcam.explainer.recording import CutRecord, LayerRecord, Recording
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.place import Placement
from onnx_xcam.images.sources import name_of
from onnx_xcam.labels import label_of
from onnx_xcam.records.evaluate import EvaluationRecord, MapResult
from onnx_xcam.records.lines import VERSION
from onnx_xcam.runtime import Cancellation

DEFAULT_METHODS = ("xgrad-cam", "grad-cam", "grad-cam++")
"""These methods compute their maps from the same run of the model."""
_OF_ONE_IMAGE = (ImageError, InputError, ModelError, PreprocessError, TruthError)
_DIGITS = 6
_MOST_STEPS = 1 << 16
"""Every step costs a run of the model for each map."""


@dataclass(frozen=True)
class _Measured:
    """A _Measured holds a record's classes and results; its lists are empty for a photo that failed."""

    classes: list[int] = field(default_factory=list)
    labels: list[str | None] | None = None
    scores: list[float | None] = field(default_factory=list)
    probabilities: list[float | None] | None = None
    confidences: list[float | None] = field(default_factory=list)
    results: list[MapResult] = field(default_factory=list)
    objects: list[int] | None = None


class Evaluator:
    """An Evaluator measures the maps of a recorder's layers and methods.

    Attributes:
        recorder: the model, opened for the methods; with ablations, if axioms are measured.
        metrics: the names of the metrics, in the order of `metrics.METRICS`.
        steps: the number of steps of the curves of insertion and deletion.
        background: what replaces the pixels that are taken away.
    """

    def __init__(
        self,
        recorder: Recorder,
        metrics: Iterable[str] = DEFAULT_GROUPS,
        *,
        steps: int = STEPS,
        background: Background = "mean",
        truth: Truth | None = None,
    ) -> None:
        """Prepare to measure; `metrics` names metrics or groups, `truth` says which objects the photos show, if known.

        Raises:
            XcamError: there is no such metric, or steps is below 2.
        """
        if (steps := whole("steps", steps, 2)) > _MOST_STEPS:
            raise XcamError(f"steps is {steps}; a curve has {_MOST_STEPS} at most.")
        one_of("background", background, get_args(Background))
        _require_truth(truth)
        self.recorder, self.steps, self.background = recorder, steps, background
        self.metrics = find_metrics(metrics, truth=truth is not None)
        self._truth = truth
        self._perturbed = frozenset(name for name in self.metrics if METRICS[name].group == "faithfulness")

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the recorder's notes, and one on what confidence is where the model gives no probabilities."""
        if not self._perturbed or self.recorder.confidence_kind == "probability":
            return tuple(self.recorder.notes)
        measured = ", ".join(name for name in self.metrics if name in self._perturbed)
        note = f"Confidence: the score, as the model tells no probabilities; {measured} are of scores, in their units."
        return (*self.recorder.notes, note)

    def stream(
        self,
        images: Iterable[Image],
        cells: Cells,
        settings: Mapping[str, str] | None = None,
        channels: str | None = None,
    ) -> Iterator[EvaluationRecord]:
        """Yield a record of each image in order, while the next images are already being processed.

        Args:
            images: images as `Explainer.explain` takes them, or prepared pictures; a generator is read as needed.
            cells: what is explained in each image, as the recorder's `choose` gives it; duplicates count once.
            settings: what each record states about how it was made.
            channels: as for `Explainer.explain`.
        """
        cancellation = Cancellation()

        def measured(recorded: Recorded) -> EvaluationRecord:
            return self._record(recorded, cancellation, settings or {})

        once = cells.distinct()
        records = self.recorder.stream(images, once, each=measured, cancellation=cancellation, channels=channels)
        try:
            yield from records
        finally:
            cancellation.cancel()

    def _record(self, recorded: Recorded, cancellation: Cancellation, settings: Mapping[str, str]) -> EvaluationRecord:
        started = perf_counter()
        try:
            if recorded.error is not None:
                raise recorded.error
            assert recorded.recording is not None
            with memory_for(recorded.recording.picture.name):
                of_photo, error = self._measured(recorded.recording, recorded.image, cancellation), None
        except _OF_ONE_IMAGE as wrong:
            of_photo, error = _Measured(), str(wrong)
        seconds = recorded.seconds + perf_counter() - started
        record: EvaluationRecord = {
            "version": VERSION,
            "image": _name(recorded.image),
            "model": self.recorder.name,
            "layer": list(self.recorder.model.shown_layers),
            "method": list(self.recorder.methods),
            "classes": of_photo.classes,
            "labels": of_photo.labels,
            "scores": of_photo.scores,
            "probabilities": of_photo.probabilities,
            "confidences": of_photo.confidences,
            "results": of_photo.results,
            "files": [],
            "seconds": None if error else round(seconds, 6),
            "error": error,
            "settings": dict(settings),
        }
        if of_photo.objects is not None:
            record["task"], record["objects"] = self.recorder.task, of_photo.objects
        return record

    def _measured(self, recording: Recording, image: Any, cancellation: Cancellation) -> _Measured:
        there = np.ones(len(recording.classes), bool) if recording.objects is None else recording.objects >= 0
        ids = recording.classes[there].tolist()
        labels = None if recording.labels is None else [label_of(one, recording.labels) for one in ids]
        confidences = recording.scores if recording.probabilities is None else recording.probabilities
        masks = [self._mask(recording, image, k) if there[k] else None for k in range(len(there))]
        results: list[MapResult] = []
        for layer in recording.layers:
            raw = {method: layer.raw(method) for method in self.recorder.methods}
            tables = self._tables(recording, layer, raw, masks, cancellation)
            for (method, k), (metrics, curves) in zip(
                ((method, k) for method in raw for k in range(len(there))), tables, strict=True
            ):
                if not there[k]:
                    continue
                results.append(
                    {
                        "layer": layer.name,
                        "method": method,
                        "class": int(recording.classes[k]),
                        "metrics": {name: _rounded(metrics.get(name)) for name in self.metrics},
                        "curves": {name: [_rounded(v) for v in curves[name]] for name in CURVES if name in curves},
                    }
                )
        probabilities = None if recording.probabilities is None else _list(recording.probabilities[there])
        objects = None if recording.objects is None else recording.objects[there].tolist()
        scores = _list(recording.scores[there])
        return _Measured(ids, labels, scores, probabilities, _list(confidences[there]), results, objects)

    def _tables(
        self,
        recording: Recording,
        layer: LayerRecord | CutRecord,
        raw: Mapping[str, NDArray[np.float32]],
        masks: Sequence[NDArray[np.bool_] | None],
        cancellation: Cancellation,
    ) -> list[tuple[dict[str, float | None], dict[str, list[float]]]]:
        """Return the metrics and curves of each of a layer's maps, by method and then by class."""
        tables: list[tuple[dict[str, float | None], dict[str, list[float]]]] = []
        faithful = iter(self._faithful(recording, raw, cancellation))
        for method, maps in raw.items():
            errors = self._axioms(layer, method)
            for k, mask in enumerate(masks):
                metrics = {} if errors is None else _axioms_of(errors, k)
                if mask is not None:
                    metrics |= _truth_of(recording.picture, maps[k], mask)
                one = next(faithful, None)
                tables.append(({**metrics, **one.metrics}, one.curves) if one else (metrics, {}))
        return tables

    def _faithful(
        self, recording: Recording, raw: Mapping[str, NDArray[np.float32]], cancellation: Cancellation
    ) -> Iterable[Any]:
        """Measure the faithfulness of all maps of a layer in shared batches; empty if no such metric is asked for."""
        if not self._perturbed:
            return ()
        picture = recording.picture
        size = picture.placement.input
        whole = Placement(photo=size, input=size, scaled=size)
        maps = np.stack([whole.place(one) for maps in raw.values() for one in maps])
        return faithfulness(
            lambda batch: self.recorder.confidences(batch, recording.cells, cancellation),
            picture.item,
            maps,
            list(range(len(recording.classes))) * len(raw),
            channels_last=self.recorder.channels_last,
            metrics=self._perturbed,
            steps=self.steps,
            background=self.background,
        )

    def _axioms(self, layer: LayerRecord | CutRecord, method: str) -> AxiomErrors | None:
        wanted = any(METRICS[name].group == AXIOMS for name in self.metrics)
        return errors_of(layer, method) if wanted and not find_method(method).is_guided else None

    def _mask(self, recording: Recording, image: Any, k: int) -> NDArray[np.bool_] | None:
        """Return the pixels that objects of the k-th class take, bool [H,W]; None where not known or needed."""
        wanted = any(METRICS[name].group == TRUTH for name in self.metrics)
        if self._truth is None or not wanted or not isinstance(image, str | Path):
            return None
        class_id = int(recording.classes[k])
        label = None if recording.labels is None else label_of(class_id, recording.labels)
        return self._truth.of(image, recording.picture.placement.photo, class_id=class_id, label=label)


def evaluate(
    model: Any,
    images: Iterable[Image],
    classes: Classes | None = None,
    top: int | None = None,
    *,
    methods: Sequence[str] = DEFAULT_METHODS,
    layers: str | Sequence[str] = "auto",
    metrics: Iterable[str] = DEFAULT_GROUPS,
    steps: int = STEPS,
    background: Background = "mean",
    truth: Truth | None = None,
    channels: str | None = None,
    **options: Any,
) -> Iterator[EvaluationRecord]:
    """Measure the maps of a model on photos.

    Args:
        model: path, bytes or ModelProto of a plain model.
        images: images as `Explainer.explain` takes them, or prepared pictures; any number of them.
        classes: ids or labels, the same for all images; -1, the model's top class, by default.
        top: the number K of each image's best classes to explain, instead of `classes`.
        methods: the CAM methods.
        layers: "auto", a layer's name, or a list of names.
        metrics: names of metrics in `metrics.METRICS`, or of their groups.
        steps: the number of steps of the curves of insertion and deletion.
        background: what replaces the pixels that are taken away: the picture's "mean" colour, or the "zero" of the
            model's input.
        truth: the objects in the photos, from `load_truth`, for the metrics of the group "truth".
        channels: as for `Explainer.explain`.
        options: further options of `Recorder`: score, preprocess, labels, providers, threads, inputs, allow_folders,
            probabilities, exact.

    Returns:
        A record for each image, in order. `summary.summarise` summarises them.

    Raises:
        XcamError: what `Recorder`, `Evaluator` and `choose` raise, before the first image. An error with one image is
            stated in its record.
    """
    images = require_images(images)
    _require_truth(truth)
    names = find_metrics(metrics, truth=truth is not None)
    recorder = Recorder(model, layers, methods=methods, ablations=needs_ablations(names), **options)
    evaluator = Evaluator(recorder, names, steps=steps, background=background, truth=truth)
    return evaluator.stream(images, recorder.choose(classes, top), channels=channels)


def _require_truth(truth: Truth | None) -> None:
    if truth is not None and not isinstance(truth, Truth):
        raise XcamError(f"truth is {short_repr(truth)}; it must be what load_truth gives.")


def needs_ablations(metrics: Iterable[str]) -> bool:
    """Tell whether a Recorder must be opened with ablations to measure these metrics."""
    return any(METRICS[name].group == AXIOMS for name in metrics)


def _axioms_of(errors: AxiomErrors, k: int) -> dict[str, float | None]:
    fields = (name for name, metric in METRICS.items() if metric.group == AXIOMS)
    by_name = {name: getattr(errors, name) for name in fields}
    return {name: None if values is None else float(values[k]) for name, values in by_name.items()}


def _truth_of(picture: Picture, raw: NDArray[np.float32], mask: NDArray[np.bool_]) -> dict[str, float | None]:
    if not np.isfinite(raw).all():
        return {}
    score = score_against(picture.placement.heatmap(np.maximum(raw, 0)), mask)
    return {
        "pointing": float(score.hit),
        "pointing_centre": float(score.centre_hit),
        "energy": score.energy,
        "object_share": score.object_share,
    }


def _name(image: Any) -> str:
    return image.name if isinstance(image, Picture) else name_of(image, "the image")


def _list(values: NDArray[np.float32]) -> list[float | None]:
    return [_rounded(one) for one in values.tolist()]


def _rounded(value: float | None) -> float | None:
    """Round a value to six digits; None if it is not finite, because JSON has neither NaN nor infinity."""
    return float(f"{value:.{_DIGITS}g}") if value is not None and math.isfinite(value) else None
