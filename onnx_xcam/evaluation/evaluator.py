"""This module measures the maps of several methods and layers, photo by photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import Any, get_args

from numpy.typing import ArrayLike

from onnx_xcam.cams.methods import AUTO_METHOD
from onnx_xcam.common.arguments import one_of, short_repr, whole
from onnx_xcam.errors import ImageError, InputError, ModelError, PreprocessError, TruthError, XcamError
from onnx_xcam.evaluation.measuring import Measured, Measuring
from onnx_xcam.evaluation.metrics import AXIOMS, DEFAULT_GROUPS, METRICS, Subject, find_metrics
from onnx_xcam.evaluation.perturbation import STEPS, Background
from onnx_xcam.evaluation.truth import Truth
from onnx_xcam.explainer import Picture
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.choosing import Objects
from onnx_xcam.explainer.classes import Classes
from onnx_xcam.explainer.model import Image, require_images
from onnx_xcam.explainer.recorder import Recorded, Recorder
from onnx_xcam.images.backend import memory_for
from onnx_xcam.images.sources import name_of
from onnx_xcam.records.evaluate import EvaluationRecord
from onnx_xcam.records.lines import VERSION
from onnx_xcam.runtime import Cancellation

DEFAULT_METHODS = (AUTO_METHOD, "xgrad-cam", "grad-cam", "grad-cam++")
"""The model's own default method, and others that compute their maps from the same run of the model."""
_OF_ONE_IMAGE = (ImageError, InputError, ModelError, PreprocessError, TruthError)
_MOST_STEPS = 1 << 16
"""Every step costs a run of the model for each map."""


class Evaluator:
    """An Evaluator measures the maps of a recorder's layers and methods.

    Attributes:
        recorder: the model, opened for the methods; with ablations, if axioms are measured.
        metrics: the names of the metrics, in the order of `metrics.METRICS`.
        steps: the number of steps of the curves of insertion and deletion.
        background: what replaces the pixels that are taken away.
        baselines: the names of the maps of the objects' boxes alone that are measured too; none without objects.
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
            XcamError: there is no such metric or it cannot be measured, steps is below 2, or there is truth about
                objects whose boxes the model does not tell.
        """
        if (steps := whole("steps", steps, 2)) > _MOST_STEPS:
            raise XcamError(f"steps is {steps}; a curve has {_MOST_STEPS} at most.")
        one_of("background", background, get_args(Background))
        _require_truth(truth)
        self.recorder, self.steps, self.background = recorder, steps, background
        names = find_metrics(metrics, truth=truth is not None, of=_subjects(recorder, truth))
        self._measuring = Measuring(recorder, names, steps, background, truth)
        self.metrics = names
        self.baselines = self._measuring.baselines

    @property
    def notes(self) -> tuple[str, ...]:
        """Return the recorder's notes, and what has to be known of the metrics with this model."""
        perturbed = ", ".join(name for name in self.metrics if name in self._measuring.perturbed)
        notes = list(self.recorder.notes)
        if perturbed and self.recorder.confidence_kind != "probability":
            notes.append(
                f"Confidence: the score, as the model tells no probabilities; {perturbed} are of scores, in their "
                "units."
            )
        candidates = self.recorder.model.loaded.metadata.candidates
        if perturbed and candidates is not None and candidates.iou is None:
            notes.append(
                f"Confidence: that of the object's row in the model's output, which in a changed picture may hold "
                f"another object where the model sorts its rows; read {perturbed} with that in mind."
            )
        if "unexplained" in self.metrics and self.recorder.model.shown_layers != self.recorder.model.layers:
            notes.append(
                "Axioms: what biases and other ways add beside a cut is not known, so unexplained is not measured; "
                "name a single layer with --layer (layers=) for it."
            )
        return tuple(notes)

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
                of_photo, error = self._measuring.of(recorded.recording, recorded.image, cancellation), None
        except _OF_ONE_IMAGE as wrong:
            of_photo, error = Measured(), str(wrong)
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
            record["boxes"] = of_photo.boxes or []
        if of_photo.annotated is not None:
            record["annotated"] = of_photo.annotated
        return record


def evaluate(
    model: Any,
    images: Iterable[Image],
    classes: Classes | None = None,
    top: int | None = None,
    *,
    objects: Objects | None = None,
    boxes: ArrayLike | None = None,
    points: ArrayLike | None = None,
    against: Classes | None = None,
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
        top: the number K of each image's best classes to explain, instead of `classes`; of a detector its best objects.
        objects, boxes, points, against: as for `Explainer.explain`.
        methods: the CAM methods.
        layers: "auto", a layer's name, or a list of names.
        metrics: names of metrics in `metrics.METRICS`, or of their groups.
        steps: the number of steps of the curves of insertion and deletion.
        background: what replaces the pixels that are taken away: the picture's "mean" colour, or the "zero" of the
            model's input.
        truth: the objects in the photos, from `load_truth`, for the metrics of the group "truth".
        channels: as for `Explainer.explain`.
        options: further options of `Recorder`: score, preprocess, labels, providers, threads, inputs, allow_folders,
            probabilities, exact, task, conf, iou.

    Returns:
        A record for each image, in order. `summary.summarise` summarises them.

    Raises:
        XcamError: what `Recorder`, `Evaluator` and `choose` raise, before the first image. An error with one image is
            stated in its record.
    """
    images = require_images(images)
    _require_truth(truth)
    metrics = tuple(metrics) if isinstance(metrics, Iterator) else metrics  # which is read twice
    names = find_metrics(metrics, truth=truth is not None)
    if against is not None:
        options["contrast"] = True
    recorder = Recorder(model, layers, methods=methods, ablations=needs_ablations(names), **options)
    evaluator = Evaluator(recorder, metrics, steps=steps, background=background, truth=truth)
    cells = recorder.choose(classes, top, objects=objects, boxes=boxes, points=points, against=against)
    return evaluator.stream(images, cells, channels=channels)


def _require_truth(truth: Truth | None) -> None:
    if truth is not None and not isinstance(truth, Truth):
        raise XcamError(f"truth is {short_repr(truth)}; it must be what load_truth gives.")


def _subjects(recorder: Recorder, truth: Truth | None) -> tuple[Subject, ...]:
    """Return what metrics can be measured of with a model and a truth.

    Raises:
        XcamError: the truth is about objects whose boxes the model does not tell.
    """
    candidates = recorder.model.loaded.metadata.candidates
    if candidates is None:
        return ("map",)
    if truth is not None and not candidates.boxes:
        raise XcamError(
            f"The boxes of {recorder.name} are not known, so its objects cannot be found in the truth; leave it out."
        )
    return ("map", "object", "mark") if truth is not None and truth.has_marks else ("map", "object")


def needs_ablations(metrics: Iterable[str]) -> bool:
    """Tell whether a Recorder must be opened with ablations to measure these metrics."""
    return any(METRICS[name].group == AXIOMS for name in metrics)


def _name(image: Any) -> str:
    return image.name if isinstance(image, Picture) else name_of(image, "the image")
