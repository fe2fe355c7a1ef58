"""This module defines what `evaluate` writes: a line of results.jsonl for each photo, and summary.json on all of them.

In both files, a number is null where it is not defined or not finite. Numbers of a record have six digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NotRequired, TypeAlias, TypedDict

from onnx_xcam.records.lines import PhotoFile, PhotoRecord

SUMMARY_VERSION = 1
"""The version of the summary's form. Fields may be added without a new version, but never change their meaning."""

Confidence: TypeAlias = Literal["probability", "score"]

_Class = TypedDict("_Class", {"class": int})
_Range = TypedDict("_Range", {"from": float, "to": float})


class MapResult(_Class):
    """This record holds what was measured of one map.

    Attributes:
        layer: The name of the layer's tensor.
        method: The name of the CAM method.
        class: The id of the class.
        metrics: The value of each metric; the same names in every result of a run, in the same order.
        curves: Confidences while the picture is changed step by step; the first value of each curve is at its first
            fraction, the last at its last, in even steps.
        object: The candidate that is explained, only of a model of objects.
        box: The box of the object, as in the record's boxes; only of a model of objects.
        baseline: True of a map that is made of the object's box alone, whose name stands in the place of the method's.
    """

    layer: str
    method: str
    metrics: dict[str, float | None]
    curves: dict[str, list[float | None]]
    object: NotRequired[int]
    box: NotRequired[list[float] | None]
    baseline: NotRequired[bool]


class EvaluationRecord(PhotoRecord):
    """This record holds what was measured of a photo, its K classes, and all its maps.

    Attributes:
        layer: The layers, in the order in which they were asked for.
        method: The CAM methods, in the order in which they were asked for.
        classes: The ids of the K classes.
        labels: The labels of the classes, null for a class that has none, or null where no labels are known.
        scores: The scores of the classes before any softmax.
        probabilities: The probabilities of the classes, or null where the model gives none.
        confidences: The probabilities of the classes, or the scores where the model gives no probabilities.
        results: The metrics and curves of each map, for each layer, method and class or object, in this order. Of a
            model of objects, the baselines of a layer follow the methods.
        task: What the model is for; only where it is no classifier.
        objects: The candidates that were explained, only of a model of objects; those that a photo does not have are
            left out.
        boxes: The left, upper, right and lower edge of each object in the photo's pixels, or null where the model's
            boxes are not known; only of a model of objects.
        annotated: Whether the truth has each object, null where it says nothing of the photo; only of a model of
            objects, and where truth was given.
    """

    layer: list[str]
    method: list[str]
    classes: list[int]
    labels: list[str | None] | None
    scores: list[float | None]
    probabilities: list[float | None] | None
    confidences: list[float | None]
    results: list[MapResult]
    task: NotRequired[str]
    objects: NotRequired[list[int]]
    boxes: NotRequired[list[list[float] | None]]
    annotated: NotRequired[list[bool | None]]


def by_column(record: EvaluationRecord) -> Iterator[tuple[int, MapResult]]:
    """Yield each result of a record after the index of its class or object, of which there may be several alike.

    The results of one layer and method are in the order of the record's classes.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for result in record["results"]:
        row = result["layer"], result["method"]
        yield seen[row], result
        seen[row] += 1


class EvaluateLine(EvaluationRecord, PhotoFile):
    """This record is a line of the results.jsonl of `evaluate`, which also states the file of its photo."""


class Figures(TypedDict):
    """This record holds a metric of all maps at one layer by one method.

    Attributes:
        count: The number of maps that have a value.
        mean: The mean of the values.
        std: The standard deviation of the sample; null for fewer than two values.
        min: The smallest value.
        max: The largest value.
    """

    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


class MeanCurve(TypedDict):
    """This record holds the mean of a curve over all maps at one layer by one method.

    Attributes:
        count: The number of maps that have a value at every point of the curve.
        mean: The mean of their curves, point by point.
    """

    count: int
    mean: list[float]


class RowFigures(TypedDict):
    """This record holds the figures of each metric and the mean of each curve, at one layer by one method."""

    metrics: dict[str, Figures]
    curves: dict[str, MeanCurve]


class SummaryRow(RowFigures):
    """This record names a layer and a method, and holds what was measured of their maps.

    Attributes:
        layer: The name of the layer's tensor.
        method: The name of the CAM method.
        metrics: The figures of each metric.
        curves: The mean of each curve.
        baseline: True of a row of maps that are made of the objects' boxes alone.
    """

    layer: str
    method: str
    baseline: NotRequired[bool]


class MetricText(TypedDict):
    """This record says what a metric means.

    Attributes:
        name: The name of the metric in records.
        title: The name of the metric for people.
        better: Whether higher or lower values are better, or null where neither is.
        text: An explanation in a sentence or two.
    """

    name: str
    title: str
    better: Literal["higher", "lower"] | None
    text: str


class CurveText(_Range):
    """This record says what a curve shows.

    Attributes:
        name: The name of the curve in records.
        title: The name of the curve for people.
        x: The meaning of the x axis.
        from: The fraction at the first value.
        to: The fraction at the last value.
    """

    name: str
    title: str
    x: str


class SanityFigures(TypedDict):
    """This record says how much maps change when the weights of some layers are random.

    Attributes:
        target: The layer of the maps.
        method: The CAM method.
        layer: The layer that was randomised last, by its output tensor.
        op: The operator of that layer.
        depth: The position of that layer, counted from the score.
        of: The number of layers that can be randomised.
        rank_correlation: Spearman's correlation of the maps before the ReLU with the original ones, mean of the photos.
        absolute: Spearman's correlation of the maps' absolute values with the original ones, mean of the photos.
        ssim: The structural similarity of the heat maps with the original ones, mean of the photos.
        compared: The number of photos that have a rank correlation.
        photos: The number of photos.
        follows: Whether the method's maps change with the weights; null where they were blank.
    """

    target: str
    method: str
    layer: str
    op: str
    depth: int
    of: int
    rank_correlation: float | None
    absolute: float | None
    ssim: float | None
    compared: int
    photos: int
    follows: bool | None


class ObjectCounts(TypedDict):
    """This record counts the objects of all photos, of a model of objects.

    Attributes:
        explained: The number of objects that were explained.
        not_annotated: The number of those that the truth does not have, which have no metrics of truth.
        photos_without: The number of photos in which no object was found.
    """

    explained: int
    not_annotated: int
    photos_without: int


class Summary(TypedDict):
    """This record summarises an evaluation of all its photos.

    Attributes:
        version: The version of the summary's form.
        model: The model's file, as it was called, or "the model" for one in memory.
        images: The number of photos.
        failed: The number of photos that could not be evaluated.
        maps: The largest number of maps in a row.
        layers: The names of the layers' tensors.
        methods: The names of the CAM methods.
        confidence: Whether the confidences are probabilities or scores.
        metrics: The metrics that were measured.
        curves: The curves that were measured.
        rows: The figures, for each layer and method, in this order.
        notes: Sentences on what was assumed.
        warnings: Sentences on what may be wrong.
        seconds: The time that all photos took.
        settings: The settings with which all lines were made; empty where they are not known.
        command: The command line, or null where the run had none.
        sanity: The sanity check, for each layer of the maps, method and depth.
        baselines: The names of the baselines, which follow the methods in the rows; only of a model of objects.
        objects: The number of objects; only of a model of objects.
    """

    version: int
    model: str
    images: int
    failed: int
    maps: int
    layers: list[str]
    methods: list[str]
    confidence: Confidence
    metrics: list[MetricText]
    curves: list[CurveText]
    rows: list[SummaryRow]
    notes: list[str]
    warnings: list[str]
    seconds: float
    settings: dict[str, str | list[str]]
    command: str | None
    sanity: NotRequired[list[SanityFigures]]
    baselines: NotRequired[list[str]]
    objects: NotRequired[ObjectCounts]
