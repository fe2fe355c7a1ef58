"""This module reads class labels from text and plain data in the forms that tools write them in."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnx_xcam.errors import LabelsError
from onnx_xcam.text import load_json, load_literal

_NUMBERED = re.compile(r"\s*[\"']?(\d{1,18})[\"']?\s*[:=,\t]\s*(.*)|\s*(\d{1,18})\s+(\D.*)")
_NUMBER_FIRST = re.compile(r"\s*(\d{1,18})\s+(\S.*)")
_SYNSET = re.compile(r"^n\d{8}[\s:,]+(?=\S)")
_CONTAINERS = (
    *("id2label", "names", "labels", "classes", "label_names", "class_names"),
    *("vocab", "categories", "label2id", "idx_to_class", "class_to_idx", "class_indices"),
)
"""The keys of a JSON or YAML file under which labels stand, in the order in which they are tried."""
_NAME_KEYS = ("display_name", "displayName", "name", "label", "class_name", "className", "class")
"""The keys of an entry in a list of classes under which its label stands, in the order in which they are tried."""
_ID_KEYS = ("id", "index", "class_id", "classId", "class_index")
"""The keys of an entry in a list of classes under which its id stands."""
_LARGEST_ID = 10_000_000
LONGEST_ID = 18
"""The most digits that a class id may have; Python refuses to read numbers of thousands of digits."""


def from_metadata_text(text: str, source: str) -> list[str]:
    """Return the labels in a metadata value: JSON, a Python literal, lines, or a list with commas."""
    if text.lstrip()[:1] in ("{", "[", "("):
        try:
            return from_data(load_json(text), source)
        except ValueError:
            pass  # not JSON; Ultralytics writes a Python dict
        try:
            return from_data(load_literal(text), source)
        except ValueError as error:
            raise LabelsError(f"{source}: neither JSON nor a Python literal") from error
    if "\n" in text.strip():
        return from_lines(text, source)
    parts = [part.strip() for part in text.split(",")]
    if len(parts) < 2:
        raise LabelsError(f"{source}: holds no list of labels")
    return parts


def from_lines(text: str, source: str) -> list[str]:
    """Return the labels of a text with one label per line.

    Numbers count as ids only if every line has one, since a label may begin with a number.
    """
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not any(line.strip() for line in lines):
        raise LabelsError(f"{source}: has no labels")
    if any("\0" in line for line in lines):
        raise LabelsError(f"{source}: not a text file")
    filled = [line for line in lines if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in filled]
    pairs = [(int(m[1] or m[3]), m[2] if m[1] else m[4]) for m in numbered if m]
    if len(pairs) < len(filled):
        pairs = _counted(filled)
    if pairs:
        return by_id(((index, clean(label)) for index, label in pairs), source)
    return [clean(line) for line in lines]


def _counted(lines: Sequence[str]) -> list[tuple[int, str]]:
    """Return the numbers and labels of lines such as "0 2 euro", if the numbers count the lines from 0; else []."""
    matches = [_NUMBER_FIRST.fullmatch(line) for line in lines]
    pairs = [(int(match[1]), match[2]) for match in matches if match]
    return pairs if [number for number, _ in pairs] == list(range(len(lines))) else []


def from_data(data: Any, source: str) -> list[str]:
    """Return the labels in plain data: a list, or a dict by id, either alone or under one of the keys `_CONTAINERS`.

    A dict may also hold the ids by label. A list may hold a dict for each class, with its label and perhaps its id.

    Raises:
        LabelsError: there are no labels, or they contradict each other.
    """
    if isinstance(data, Mapping):
        for key in _CONTAINERS:
            if isinstance(data.get(key), (Mapping, list)):
                return from_data(data[key], source)
        if not all(is_id(key) for key in data):
            if data and all(is_id(value) for value in data.values()):  # label2id: the other way round
                return by_id(((int(index), _label(label, source)) for label, index in data.items()), source)
            odd = next((key for key in data if not is_id(key)), None)
            raise LabelsError(f"{source}: labels by class id expected, but {reprlib.repr(odd)} is no id")
        return by_id(((int(key), _label(value, source)) for key, value in data.items()), source)
    if not isinstance(data, (list, tuple)):
        raise LabelsError(
            f"{source}: must hold a list of labels, or labels by class id; it holds {type(data).__name__}"
        )
    if not data:
        raise LabelsError(f"{source}: has no labels")
    if all(isinstance(entry, Mapping) for entry in data):
        return _from_entries(data, source)
    return [_label(value, source) for value in data]


def _from_entries(entries: Sequence[Mapping[str, Any]], source: str) -> list[str]:
    """Return the labels of a list that holds a dict for each class: by their ids, or else in the list's order."""
    name = next((key for key in _NAME_KEYS if all(key in entry for entry in entries)), None)
    if name is None:
        raise LabelsError(f"{source}: a list of classes in which not every one has a name, such as {_NAME_KEYS[2]!r}")
    key = next((key for key in _ID_KEYS if all(is_id(entry.get(key)) for entry in entries)), None)
    labels = [_label(entry[name], source) for entry in entries]
    return labels if key is None else by_id(zip((int(entry[key]) for entry in entries), labels, strict=True), source)


def is_id(value: Any) -> bool:
    """Tell whether a key or a value of a file is a class id: a whole number, perhaps in text."""
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, str) and value.isdecimal() and len(value) <= LONGEST_ID)
    )


def _label(value: Any, source: str) -> str:
    """Return the label that an entry of a file states, or raise a LabelsError if it states none."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, str) for v in value):
        value = value[1]  # ImageNet's ["n01440764", "tench"]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise LabelsError(f"{source}: a label must be text, not {reprlib.repr(value)}")
    return clean(str(value))


def clean(label: str) -> str:
    """Return a label without the blanks and the pair of quotes around it and the WordNet id before it."""
    label = label.strip()
    if len(label) > 1 and label[0] == label[-1] and label[0] in "\"'":
        label = label[1:-1].strip()
    return _SYNSET.sub("", label)


def by_id(pairs: Iterable[tuple[int, str]], source: str) -> list[str]:
    """Return the labels as a list by class id; ids that are left out get an empty label."""
    by_id: dict[int, str] = {}
    for index, label in pairs:
        if by_id.setdefault(index, label) != label:
            raise LabelsError(f"{source}: class {index} has two labels, {by_id[index]!r} and {label!r}")
    if not by_id:
        raise LabelsError(f"{source}: has no labels")
    if min(by_id) < 0 or max(by_id) > _LARGEST_ID:
        raise LabelsError(f"{source}: class ids must be 0 to {_LARGEST_ID}")
    first = 1 if 0 not in by_id and sorted(by_id) == list(range(1, len(by_id) + 1)) else 0
    if first:
        raise LabelsError(f"{source}: the class ids begin at 1, but a model's classes begin at 0; renumber them")
    return [by_id.get(index, "") for index in range(max(by_id) + 1)]
