"""This module reads class labels from tables (CSV) and from the label maps of TensorFlow's object detection."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from onnx_xcam.common.text_format import blocks, load_text_format, texts
from onnx_xcam.errors import LabelsError
from onnx_xcam.labels.formats import by_id, clean, from_lines, is_id

_LABEL_COLUMNS = ("display_name", "displayname", "label", "label_name", "class_name", "classname", "name", "class")
"""The heads of a column of labels, in the order in which they are tried."""
_LONGEST_LINE = 100_000
_NAMES = ("display_name", "name")


def from_table(text: str, delimiter: str, source: str) -> list[str]:
    """Return the labels in a table with or without a header.

    The ids are the first column of whole numbers that all differ; without one the labels are in the order of the rows.
    The labels are the column whose head says so, or else the only other column. A text that is no such table is read
    line by line.

    Raises:
        LabelsError: it is not plain which column holds the labels, or the ids contradict each other.
    """
    if max(map(len, text.splitlines()), default=0) > _LONGEST_LINE:
        raise LabelsError(f"{source}: a line is longer than {_LONGEST_LINE} characters")
    try:
        read = list(csv.reader(text.splitlines(), delimiter=delimiter))
    except csv.Error as error:
        raise LabelsError(f"{source}: no table: {error}") from error
    rows = [row for row in read if any(cell.strip() for cell in row)]
    width = len(rows[0]) if rows else 0
    if any(len(row) != width for row in rows):
        return from_lines(text, source)
    heads = _heads(rows)
    body = rows[1:] if heads else rows
    number = _number_column(body)
    column = _label_column(heads, width, number)
    if (column is None and not heads and number is None) or not body:
        return from_lines(text if not heads else "", source)
    if column is None:
        raise LabelsError(f"{source}: which of its {width} columns holds the labels is not plain; call it 'label'")
    labels = [clean(row[column]) for row in body]
    if number is None:
        return labels
    return by_id(zip((int(row[number]) for row in body), labels, strict=True), source)


def _heads(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the heads of the columns if the first row is none of the table's own, in lower case; else []."""
    heads = [cell.strip().casefold() for cell in rows[0]] if rows else []
    number = _number_column(rows[1:])
    if set(heads) & set(_LABEL_COLUMNS) or (number is not None and not is_id(heads[number])):
        return heads
    return []


def _number_column(rows: Sequence[Sequence[str]]) -> int | None:
    """Return the first column whose cells are whole numbers that all differ, or None; a lone column is none."""
    width = len(rows[0]) if rows else 0
    return next((at for at in range(width) if width > 1 and _counts([row[at] for row in rows])), None)


def _label_column(heads: Sequence[str], width: int, number: int | None) -> int | None:
    """Return the column that holds the labels, by its head, or since it is the only other one than the numbers'."""
    named = next((heads.index(head) for head in _LABEL_COLUMNS if head in heads), None)
    others = [at for at in range(width) if at != number]
    return named if named is not None else others[0] if len(others) == 1 else None


def _counts(cells: Sequence[str]) -> bool:
    """Tell whether cells are whole numbers that all differ."""
    numbers = [cell.strip() for cell in cells]
    return bool(numbers) and all(map(is_id, numbers)) and len(set(map(int, numbers))) == len(numbers)


def from_pbtxt(text: str, source: str) -> list[str]:
    """Return the labels in a label map of TensorFlow's object detection: `item { id: 1 name: "cat" }`.

    A `display_name` is preferred to the `name`. The id 0 is the background's and mostly left out; it gets "" then.
    The format is `string_int_label_map.proto` of https://github.com/tensorflow/models (research/object_detection).

    Raises:
        LabelsError: the text is no label map, or an item has no id or no name.
    """
    try:
        items = blocks(load_text_format(text), "item")
    except ValueError as error:
        raise LabelsError(f"{source}: no label map: {error}") from error
    pairs = []
    for item in items:
        label = next((values[0] for key in _NAMES if (values := texts(item, key))), None)
        index = next(iter(texts(item, "id")), "")
        if label is None or not is_id(index):
            raise LabelsError(f"{source}: an item has no {'name' if label is None else 'id'}")
        pairs.append((int(index), clean(label)))
    if pairs and all(index for index, _ in pairs):
        pairs.append((0, ""))
    return by_id(pairs, source)
