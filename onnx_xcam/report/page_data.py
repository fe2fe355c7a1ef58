"""This module defines the JSON that stands in a page beside its markup, and that the scripts of the page read."""

from __future__ import annotations

from typing import Literal, TypedDict


class PlacementData(TypedDict):
    """This record says how the model's input lies on a photo; see `images.place.Placement`.

    Sizes are [height, width], and the offset is [top, left].

    Attributes:
        photo: The size of the photo.
        input: The size of the model's input.
        scaled: The size of the photo after scaling.
        offset: Where the input begins on the scaled photo.
    """

    photo: list[float]
    input: list[float]
    scaled: list[float]
    offset: list[float]


class ClassData(TypedDict):
    """This record describes a class that was explained for a photo, or an object with its class.

    Attributes:
        id: The id of the class.
        label: The label of the class, or null.
        score: The score of the class, or null.
        probability: The probability of the class, or null.
        object: The number of the object among the model's candidates, or null for a class of the whole photo.
        box: The box x1, y1, x2, y2 of the object in the photo's pixels, or null.
        against: The class that the class is contrasted with, in words, or null.
    """

    id: int
    label: str | None
    score: float | None
    probability: float | None
    object: int | None
    box: list[float] | None
    against: str | None


class MapData(TypedDict):
    """This record holds the raw maps of a photo's K classes, at one layer by one method.

    Attributes:
        method: The CAM method.
        layer: The layer.
        signed: Whether values below zero are meant.
        fine: Whether the maps have the input's resolution, as those of guided methods.
        limits: The value at which each map is cut off when it is drawn; null for maps that are not fine.
        status: The status of each map.
        dims: K, height and width.
        step: The factor by which the values are multiplied, or null where they are floats.
        data: The values: little-endian float32 or int16, in base64.
    """

    method: str
    layer: str
    signed: bool
    fine: bool
    limits: list[float | None] | None
    status: list[int]
    dims: list[int]
    step: float | None
    data: str


class PhotoData(TypedDict):
    """This record holds a photo with its classes and maps.

    Attributes:
        name: The name of the photo.
        size: The height and the width of the photo.
        image: The photo as a data URL.
        placement: How the model's input lies on the photo.
        classes: The K classes, or objects with their classes; none where the photo has no object.
        maps: The maps, for each method and layer.
        warnings: Sentences on what may be wrong with this photo.
    """

    name: str
    size: list[int]
    image: str
    placement: PlacementData
    classes: list[ClassData]
    maps: list[MapData]
    warnings: list[str]


class PhotosOptions(TypedDict):
    """This record holds what all photos of a page have in common.

    Attributes:
        colours: Colour maps by name: 256 colours of 3 bytes, in base64.
        diverging: Colour maps for signed maps, in the same form.
        status: The meaning of each status.
        boxes: The colours of boxes, by class in turn, as 3 numbers 0..255 each.
    """

    colours: dict[str, str]
    diverging: dict[str, str]
    status: dict[str, str]
    boxes: list[list[int]]


class ColumnData(TypedDict):
    """This record describes a metric, which is a column of the table of images.

    Attributes:
        title: The title of the metric.
        better: Whether higher or lower values are better, or null where neither is.
    """

    title: str
    better: Literal["higher", "lower"] | None


class RowData(TypedDict):
    """This record names a layer and a method for which the table can show metrics.

    Attributes:
        layer: The layer.
        method: The method.
    """

    layer: str
    method: str


ImageData = tuple[str, str, float | None, list[list[float | None]]]
"""A photo and a class, by name, with the confidence, and for each layer and method the value of each metric."""


class TableData(TypedDict):
    """This record holds the table of images on the page of an evaluation.

    Attributes:
        metrics: The metrics, which are the columns.
        rows: The layers and methods to choose from.
        images: The values for each photo and class.
        confidence: Whether the confidences are probabilities or scores.
    """

    metrics: list[ColumnData]
    rows: list[RowData]
    images: list[ImageData]
    confidence: str
