"""What the scripts of the pages read: the JSON that stands in a page beside its markup."""

from __future__ import annotations

from typing import Literal, TypedDict


class PlacementData(TypedDict):
    """How the model's input lies on a photo: see `images.place.Placement`. Each is [height, width] or [top, left].

    Attributes:
        photo: The size of the photo.
        input: The size of the model's input.
        scaled: The size of the photo as it was scaled.
        offset: Where the input begins on the scaled photo.
    """

    photo: list[float]
    input: list[float]
    scaled: list[float]
    offset: list[float]


class ClassData(TypedDict):
    """A class that was explained for a photo.

    Attributes:
        id: Its id.
        label: Its label, or null.
        score: Its score, or null.
        probability: Its probability, or null.
    """

    id: int
    label: str | None
    score: float | None
    probability: float | None


class MapData(TypedDict):
    """The raw maps of a photo's K classes, at one layer by one method.

    Attributes:
        method: The CAM method.
        layer: The layer.
        signed: Whether values below zero are meant.
        fine: Whether the maps have the input's resolution, as those of guided methods.
        limits: Where each map is cut off when it is drawn; null for maps that are not fine.
        status: The status of each map.
        dims: K, height and width.
        step: What the values are to be multiplied by, or null where they are floats.
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
    """A photo.

    Attributes:
        name: Its name.
        size: Its height and width.
        image: The photo as a data URL.
        placement: How the model's input lies on it.
        classes: The K classes.
        maps: The maps, for each method and layer.
        warnings: Sentences on this photo.
    """

    name: str
    size: list[int]
    image: str
    placement: PlacementData
    classes: list[ClassData]
    maps: list[MapData]
    warnings: list[str]


class PhotosOptions(TypedDict):
    """What the page of photos knows beside them.

    Attributes:
        colours: Colour maps by name: 256 colours of 3 bytes, in base64.
        diverging: The same for signed maps.
        status: What each status means.
    """

    colours: dict[str, str]
    diverging: dict[str, str]
    status: dict[str, str]


class ColumnData(TypedDict):
    """A metric, as a column of the table of images.

    Attributes:
        title: Its title.
        better: Which values are better, or null.
    """

    title: str
    better: Literal["higher", "lower"] | None


class RowData(TypedDict):
    """A layer and a method, whose figures the table can show.

    Attributes:
        layer: The layer.
        method: The method.
    """

    layer: str
    method: str


ImageData = tuple[str, str, float | None, list[list[float | None]]]
"""A photo and a class: their names, the confidence, and for each layer and method the value of each metric."""


class TableData(TypedDict):
    """The table of images on the page of an evaluation.

    Attributes:
        metrics: The metrics.
        rows: The layers and methods.
        images: Each photo and class.
        confidence: What the confidences are.
    """

    metrics: list[ColumnData]
    rows: list[RowData]
    images: list[ImageData]
    confidence: str
