"""This module reads annotations, which state the objects in photos as masks or as boxes in the common formats.

A box is `x0, y0, x1, y1` in pixels of the upright photo, from the left and upper edge of its first pixel to the right
and lower edge of its last; each of the formats is converted to that.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree

from onnx_xcam.common.arguments import short_repr
from onnx_xcam.common.descriptions import read_stated
from onnx_xcam.common.files import is_file, is_folder
from onnx_xcam.errors import TruthError
from onnx_xcam.text import load_json

MASK_SUFFIXES = frozenset({".bmp", ".gif", ".pbm", ".pgm", ".png", ".tif", ".tiff"})
_JPEG_SUFFIXES = frozenset({".jpe", ".jpeg", ".jpg"})
_CSV_NAMES = {
    "photo": ("photo", "image", "file", "filename", "file_name"),
    "x0": ("x0", "xmin", "x_min"),
    "y0": ("y0", "ymin", "y_min"),
    "x1": ("x1", "xmax", "x_max"),
    "y1": ("y1", "ymax", "y_max"),
}
_CSV_CLASS = ("class", "label", "category", "name")


@dataclass(frozen=True)
class Box:
    """A Box is the rectangle that an object takes in a photo.

    Attributes:
        x0, y0, x1, y1: the edges, in pixels of the upright photo.
        name: the object's class, a label or the id of a class as text; None where the file names none.
        mask: the file of a mask that marks this object alone, or None.
        mark: the edges of the part of the object that decides its class, in the order of the box's, or None.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    name: str | None = None
    mask: Path | None = None
    mark: tuple[float, float, float, float] | None = None

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Return x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1


@dataclass(frozen=True)
class Annotation:
    """An Annotation states which objects one photo shows, by boxes or by a mask.

    Attributes:
        source: the file that states it, for messages.
        boxes: the boxes of the objects; none where there is a mask.
        mask: the file of the mask that marks the objects, or None.
        size: height and width of the photo as the file states them, or None.
    """

    source: str
    boxes: tuple[Box, ...] = ()
    mask: Path | None = None
    size: tuple[int, int] | None = None


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Read the annotation of each photo, by the photo's name.

    A name has its suffix where the annotation file states one, and may begin with folders.

    A folder holds a mask or a Pascal VOC file for each photo, by the photo's name; subfolders are searched. A .json
    file holds COCO's "images", "annotations" and "categories", or `{photo: [[x0, y0, x1, y1], ...]}` or
    `{photo: {class: [[x0, y0, x1, y1], ...]}}`, or `{photo: [{"box": [x0, y0, x1, y1], "class": ..., "mask": FILE,
    "mark": [x0, y0, x1, y1]}, ...]}`, where all but the box may be left out and the file of a mask is named from the
    folder of the .json file. A .csv file has a line per box, a .xml file is in Pascal VOC's format.

    Raises:
        TruthError: there is no such file, or it has none of these formats.
    """
    if is_folder(path):
        return _from_folder(path)
    readers = {".json": _from_json, ".csv": _from_csv, ".xml": _from_voc}
    reader = readers.get(path.suffix.lower())
    if reader is None and is_file(path):
        raise TruthError(f"{path}: is neither a folder of masks or .xml files nor a .json, .csv or .xml file")
    text = read_stated(path, TruthError, "no such file or folder")
    assert reader is not None
    return reader(text, path)


def _from_folder(folder: Path) -> dict[str, Annotation]:
    try:
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    except OSError as error:
        raise TruthError(f"{folder}: the folder cannot be listed: {error.strerror or error}") from error
    masks = [path for path in files if path.suffix.lower() in MASK_SUFFIXES]
    described = [path for path in files if path.suffix.lower() == ".xml"]
    if masks and described:
        raise TruthError(f"{folder}: has both masks and .xml files; name a folder with one kind")
    if not masks and not described:
        hint = "; masks cannot be JPEGs, save them as PNG" if _any_jpeg(files) else ""
        raise TruthError(f"{folder}: has neither masks ({', '.join(sorted(MASK_SUFFIXES))}) nor .xml files{hint}")
    annotations: dict[str, Annotation] = {}
    for path in masks:
        key = path.relative_to(folder).with_suffix("").as_posix()
        if key in annotations:
            raise TruthError(f"{path}: {annotations[key].mask} is a mask of the same photo; leave one of them")
        annotations[key] = Annotation(str(path), mask=path)
    for path in described:
        for key, annotation in read_annotations(path).items():
            if key in annotations:
                raise TruthError(f"{path}: {annotations[key].source} describes {key!r} as well; leave one of them")
            annotations[key] = annotation
    return annotations


def _any_jpeg(files: Sequence[Path]) -> bool:
    return any(path.suffix.lower() in _JPEG_SUFFIXES for path in files)


def _from_json(text: str, path: Path) -> dict[str, Annotation]:
    try:
        data = load_json(text)
    except ValueError as error:
        raise TruthError(f"{path}: not valid JSON: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise TruthError(f"{path}: must hold boxes by photo, or COCO's images and annotations")
    if "annotations" in data and "images" in data:
        return _from_coco(data, path)
    return {name: Annotation(str(path), tuple(_plain_boxes(boxes, name, path))) for name, boxes in data.items()}


def _plain_boxes(data: Any, photo: str, path: Path) -> Iterator[Box]:
    """Yield the boxes of one photo, from the JSON forms `{photo: boxes}`, `{photo: {class: boxes}}` and of objects."""
    where = f"{path}: {photo!r}"
    for name, boxes in data.items() if isinstance(data, Mapping) else [(None, data)]:
        if not isinstance(boxes, Sequence) or isinstance(boxes, str):
            raise TruthError(f"{where}: must be a list of boxes [x0, y0, x1, y1], or such lists by class")
        for box in boxes:
            yield _plain_object(box, where, path) if isinstance(box, Mapping) else _box(box, name, where)


def _plain_object(data: Mapping[str, Any], where: str, path: Path) -> Box:
    """Return an object of the plain JSON form that states each object by "box", "class", "mask" and "mark"."""
    if unknown := sorted(set(data) - {"box", "class", "mask", "mark"}):
        raise TruthError(f"{where}: an object has no {unknown[0]!r}; it has box, and perhaps class, mask and mark")
    name, mask, mark = data.get("class"), data.get("mask"), data.get("mark")
    if not isinstance(name, str | int | None) or isinstance(name, bool):
        raise TruthError(f"{where}: the class {short_repr(name)} is neither a label nor an id")
    box = _box(data.get("box"), name, where)
    if mask is not None:
        parts = PurePosixPath(mask).parts if isinstance(mask, str) and mask and "\\" not in mask else ("..",)
        if ".." in parts or parts[:1] == ("/",) or Path(*parts).is_absolute():
            raise TruthError(f"{where}: the mask {short_repr(mask)} is no file in the folder of the .json file")
        box = replace(box, mask=path.parent.joinpath(*parts))
    return box if mark is None else replace(box, mark=_box(mark, None, where).edges)


def _from_coco(data: Mapping[str, Any], path: Path) -> dict[str, Annotation]:
    """Read COCO's detection format, where a box is `[x, y, width, height]`; polygons and run lengths are not read."""
    names = {entry["id"]: str(entry["name"]) for entry in _entries(data, "categories", ("id", "name"), path, [])}
    images = _entries(data, "images", ("id", "file_name"), path)
    boxes: dict[Any, list[Box]] = {image["id"]: [] for image in images}
    for number, entry in enumerate(_entries(data, "annotations", ("image_id",), path)):
        where = f"{path}: annotation {entry.get('id', number)}"
        if entry["image_id"] not in boxes:
            raise TruthError(f"{where}: there is no image with the id {entry['image_id']!r}")
        if "bbox" not in entry:
            raise TruthError(f"{where}: has no bbox; segmentations are not read, draw them into masks")
        category = entry.get("category_id")
        if category is not None and category not in names:
            raise TruthError(f"{where}: there is no category with the id {category!r}")
        x, y, width, height = _numbers(entry["bbox"], where)
        boxes[entry["image_id"]].append(
            _box((x, y, x + width, y + height), None if category is None else names[category], where)
        )
    annotations: dict[str, Annotation] = {}
    for image in images:
        key = str(image["file_name"])
        if key in annotations:
            raise TruthError(f"{path}: has two images with the file_name {key!r}")
        size = (image.get("height"), image.get("width"))
        known = all(isinstance(side, int) for side in size)
        annotations[key] = Annotation(str(path), tuple(boxes[image["id"]]), size=size if known else None)  # type: ignore[arg-type]
    return annotations


def _entries(
    data: Mapping[str, Any], key: str, needed: tuple[str, ...], path: Path, default: Any = None
) -> list[Mapping[str, Any]]:
    """Return a list of COCO's objects, each of which must have the fields `needed` as numbers or texts."""
    entries = data.get(key, default)
    if not isinstance(entries, list):
        raise TruthError(f"{path}: {key} must be a list of objects")
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not all(isinstance(entry.get(name), int | str) for name in needed):
            raise TruthError(f"{path}: {key}[{number}] must be an object with {' and '.join(needed)}")
    return entries


def _from_csv(text: str, path: Path) -> dict[str, Annotation]:
    """Read CSV with a line per box; the first line names the columns, and all lines of a photo make its annotation."""
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise TruthError(f"{path}: not valid CSV: {error}") from error
    header = [str(name).strip().lower() for name in (rows[0] if rows else ())]
    columns = {key: next((name for name in names if name in header), None) for key, names in _CSV_NAMES.items()}
    if missing := [key for key, column in columns.items() if column is None]:
        raise TruthError(
            f"{path}: the first line must name the columns photo, x0, y0, x1, y1 and perhaps class; "
            f"{', '.join(missing)} is missing, or no line follows"
        )
    named = next((name for name in _CSV_CLASS if name in header), None)
    boxes: dict[str, list[Box]] = {}
    for number, row in enumerate(rows, start=2):
        cells = {str(key).strip().lower(): value.strip() for key, value in row.items() if isinstance(value, str)}
        where = f"{path}: line {number}"
        if None in row or len(cells) < len(header):
            raise TruthError(f"{where}: has more or fewer cells than the first line")
        photo, *edges = (cells[column] for column in columns.values() if column is not None)
        boxes.setdefault(photo, []).append(_box(edges, cells[named] or None if named else None, where))
    return {photo: Annotation(str(path), tuple(of_photo)) for photo, of_photo in boxes.items()}


def _from_voc(text: str, path: Path) -> dict[str, Annotation]:
    """Read a file in Pascal VOC's format, which describes one photo.

    Pixels count from 1, and xmax and ymax are the last ones that belong to the box. The photo has the name of the file,
    as in VOC itself: `filename` inside often states the name in another folder or for another tool.
    """
    if "<!" in text.replace("<!--", ""):  # entities could stand for gigabytes, or for other files
        raise TruthError(f"{path}: has a document type or entities, which are not read; Pascal VOC files have none")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise TruthError(f"{path}: not valid XML: {error}") from error
    if root.tag != "annotation":
        raise TruthError(f"{path}: not a Pascal VOC file: its root is {root.tag!r} and not 'annotation'")
    boxes = []
    for number, entry in enumerate(root.findall("object"), start=1):
        where = f"{path}: object {number}"
        first = _numbers([entry.findtext(f"bndbox/{edge}") for edge in ("xmin", "ymin")], where, 2)
        last = _numbers([entry.findtext(f"bndbox/{edge}") for edge in ("xmax", "ymax")], where, 2)
        name = (entry.findtext("name") or "").strip() or None
        boxes.append(_box((first[0] - 1, first[1] - 1, *last), name, where))
    sides = [root.findtext(f"size/{side}") for side in ("height", "width")]
    size = tuple(int(side) for side in sides if side and side.strip().isdecimal() and len(side) < 10)
    return {path.stem: Annotation(str(path), tuple(boxes), size=(size[0], size[1]) if len(size) == 2 else None)}


def _box(edges: Any, name: object, where: str) -> Box:
    x0, y0, x1, y1 = _numbers(edges, where)
    if x1 <= x0 or y1 <= y0:
        raise TruthError(f"{where}: the box [{x0:g}, {y0:g}, {x1:g}, {y1:g}] is empty; it must be [x0, y0, x1, y1]")
    return Box(x0, y0, x1, y1, None if name is None else str(name))


def _numbers(values: Any, where: str, count: int = 4) -> list[float]:
    """Return `count` finite numbers from a list of numbers or of their texts, or raise TruthError."""
    numbers: list[float] = []
    if isinstance(values, Sequence) and not isinstance(values, str) and len(values) == count:
        for value in values:
            try:
                numbers.append(math.nan if isinstance(value, bool) or value is None else float(value))
            except (TypeError, ValueError, OverflowError):
                break
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise TruthError(f"{where}: a box must be {count} finite numbers, not {values!r}")
    return numbers
