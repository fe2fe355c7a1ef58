"""What `evaluate` writes: a line of its results.jsonl for each photo, and summary.json, which is made of all of them.

In both, a number is null where it is not defined or not finite. Numbers of a record have six digits.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypeAlias, TypedDict

from onnx_xcam.records.lines import PhotoFile, PhotoRecord

SUMMARY_VERSION = 1
"""Of the summary's form. Fields may be added to it, never changed."""

Confidence: TypeAlias = Literal["probability", "score"]

_Class = TypedDict("_Class", {"class": int})
_Range = TypedDict("_Range", {"from": float, "to": float})


class MapResult(_Class):
    """What was measured of one map.

    Attributes:
        layer: The name of the layer's tensor.
        method: The name of the CAM method.
        class: The id of the class.
        metrics: The value of each metric; the same names in every result of a run, in the same order.
        curves: Confidences while the picture changes, of insertion and deletion; the first value of each curve is at
            its first fraction, the last at its last, in even steps.
    """

    layer: str
    method: str
    metrics: dict[str, float | None]
    curves: dict[str, list[float | None]]


class EvaluationRecord(PhotoRecord):
    """What was measured of a photo, its K classes, and all its maps.

    Attributes:
        layer: The layers, in the order in which they were asked for.
        method: The CAM methods, in the order in which they were asked for.
        classes: The ids of the K classes.
        labels: Their labels, null for a class that has none, or null where no labels are known.
        scores: Their scores before any softmax.
        probabilities: Their probabilities, or null where the model tells none.
        confidences: What those of changed pictures are compared with: the probabilities, else the scores.
        results: What was measured, for each layer, method and class, in this order.
    """

    layer: list[str]
    method: list[str]
    classes: list[int]
    labels: list[str | None] | None
    scores: list[float | None]
    probabilities: list[float | None] | None
    confidences: list[float | None]
    results: list[MapResult]


class EvaluateLine(EvaluationRecord, PhotoFile):
    """A record as a line of results.jsonl, which also tells which file its photo is."""


class Figures(TypedDict):
    """A metric of all maps at one layer by one method.

    Attributes:
        count: How many maps had a value.
        mean: The mean of the values.
        std: The standard deviation of the sample; null for less than two values.
        min: The smallest value.
        max: The largest value.
    """

    count: int
    mean: float | None
    std: float | None
    min: float | None
    max: float | None


class MeanCurve(TypedDict):
    """A curve of all maps at one layer by one method.

    Attributes:
        count: How many maps had the whole curve.
        mean: Their mean, point by point.
    """

    count: int
    mean: list[float]


class RowFigures(TypedDict):
    """The metrics and the curves at one layer by one method, by their names."""

    metrics: dict[str, Figures]
    curves: dict[str, MeanCurve]


class SummaryRow(RowFigures):
    """A layer, a method, and what was measured of their maps.

    Attributes:
        layer: The name of the layer's tensor.
        method: The name of the CAM method.
        metrics: The figures of each metric.
        curves: The mean of each curve.
    """

    layer: str
    method: str


class MetricText(TypedDict):
    """What a metric means.

    Attributes:
        name: The name that records have for it.
        title: The name that people read.
        better: Which values are better, or null where none are.
        text: What it is, in a sentence or two.
    """

    name: str
    title: str
    better: Literal["higher", "lower"] | None
    text: str


class CurveText(_Range):
    """What a curve shows.

    Attributes:
        name: The name that records have for it.
        title: The name that people read.
        x: What changes along it.
        from: The fraction at its first value.
        to: The fraction at its last value.
    """

    name: str
    title: str
    x: str


class SanityFigures(TypedDict):
    """How much maps change when the weights of some layers are random.

    Attributes:
        target: The layer of the maps.
        method: The CAM method.
        layer: The layer that was randomised last, by the tensor that it makes.
        op: The operator of that layer.
        depth: How many layers are random, counted from the score.
        of: How many layers there are.
        rank_correlation: Spearman's correlation of the maps before the ReLU with the original ones, mean of the photos.
        absolute: The same of the maps' absolute values.
        ssim: The structural similarity of the heat maps with the original ones, mean of the photos.
        compared: Of how many photos the rank correlation is.
        photos: How many photos there are.
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


class Summary(TypedDict):
    """What an evaluation says of all photos.

    Attributes:
        version: The version of the summary's form.
        model: The model's file, as it was called, or "the model" for one in memory.
        images: How many photos there were.
        failed: How many of them could not be evaluated.
        maps: How many maps are in each of the rows.
        layers: The layers.
        methods: The CAM methods.
        confidence: What the confidences are.
        metrics: What was measured.
        curves: Which curves there are.
        rows: The figures, for each layer and method, in this order.
        notes: What was assumed.
        warnings: What deserves a look.
        seconds: How long all photos took.
        settings: How all lines were made; empty where nothing tells it.
        command: The command line, or null.
        sanity: The sanity check, for each layer of the maps, method and depth.
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
