"""This module reads class labels from files and model metadata, and resolves labels to class ids."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnx_xcam.common.descriptions import load_description, read_stated
from onnx_xcam.common.suggestions import nearest
from onnx_xcam.contract import METADATA_KEY
from onnx_xcam.errors import ClassError, LabelsError
from onnx_xcam.metadata import read_hints
from onnx_xcam.text import load_json, load_literal

_NUMBERED = re.compile(r"\s*[\"']?(\d{1,18})[\"']?\s*[:=,\t]\s*(.*)|\s*(\d{1,18})\s+(\D.*)")
_SYNSET = re.compile(r"^n\d{8}[\s:,]+(?=\S)")
_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d+\s*")
_METADATA_KEYS = ("names", "labels", "classes", "id2label", "label_names", "class_names")
"""The keys of a model's metadata under which exporters store labels, in the order in which they are tried."""
_CONTAINERS = ("id2label", "names", "labels", "classes", "label_names", "class_names")
"""The keys of a JSON or YAML file under which labels stand, in the order in which they are tried."""
_SHOWN = 5
"""A message names at most this many classes."""
_LARGEST_ID = 10_000_000
_LONGEST_ID = 18
"""The most digits that a class id may have; Python refuses to read numbers of thousands of digits."""


def load_labels(path: str | Path) -> list[str]:
    """Return the class labels in a file, by class id.

    A text file has one label per line, perhaps numbered ("0: cat", "0 cat") and perhaps led by a WordNet id
    ("n01440764 tench, Tinca tinca"), which is dropped. A .json, .yaml or .yml file holds a list of labels, or labels
    by class id, either alone or under "id2label" (Hugging Face), "names" (Ultralytics), "labels" or "classes".
    ImageNet's own form, {"0": ["n01440764", "tench"]}, is understood as well. Ids that a file leaves out get "".

    Raises:
        LabelsError: the file cannot be read, is no such file, or has no labels.
    """
    path = Path(path)
    text = read_stated(path, LabelsError, "no such labels file")
    suffix = path.suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        return _from_lines(text, str(path))
    try:
        data = load_description(text, suffix)
    except ValueError as error:
        raise LabelsError(f"{path}: not valid {suffix[1:].upper()}: {' '.join(str(error).split())}") from error
    return _from_data(data, str(path))


def labels_from_metadata(props: Mapping[str, str]) -> list[str] | None:
    """Return the labels that a model's `metadata_props` hold, or None.

    The labels of onnx_xcam itself (`read_hints`) come first, then those under the keys of other tools: "names"
    (Ultralytics: a Python dict in text), "labels", "classes", "id2label", "label_names", "class_names", each as JSON,
    as a Python literal or as lines. A key of other tools that cannot be understood is passed over.

    Raises:
        ModelError: the entry of onnx_xcam itself is not of the right type.
        LabelsError: the entry of onnx_xcam itself holds an empty list.
    """
    own = read_hints(props).labels
    if own is not None:
        if not own:
            raise LabelsError(f"metadata {METADATA_KEY!r}: has no labels")
        return list(own)
    for key in _METADATA_KEYS:
        if key in props:
            try:
                return _from_text(props[key], f"metadata {key!r}")
            except LabelsError:
                continue  # another tool's key of the same name, such as "classes: 1000"
    return None


def label_of(index: int, labels: Sequence[str] | None) -> str | None:
    """Return the label of a class, or None where it has none (no labels, too few of them, or an empty one)."""
    if labels is None or not 0 <= index < len(labels):
        return None
    return labels[index] or None


def resolve_class(text_or_int: str | int, labels: Sequence[str] | None, num_classes: int | None) -> int:
    """Return the class id that an id or a label means.

    Ids run from 0; -1 is the model's own top class, -2 the second best, and so on, and are returned as they are. A text
    is compared with the labels exactly, then without regard to case, then with each synonym in a label ("tabby" in
    "tabby, tabby cat"), then with whole words of a label, then with any part of it. The first comparison that fits some
    class decides, and must fit one class only. A number in text is an id; it is looked up as a label only where no
    class has that id.

    Args:
        text_or_int: an id, or an id or a label in text.
        labels: the labels by id, if known.
        num_classes: the number of classes, if known.

    Raises:
        ClassError: the id is out of range, or the label is unknown (the message names the nearest ones) or fits
            several classes (the message lists them).
    """
    if isinstance(text_or_int, str):
        if not _WHOLE_NUMBER.fullmatch(text_or_int):
            return _in_range(_by_label(text_or_int, labels), num_classes)
        if len(text_or_int.strip()) > _LONGEST_ID:
            raise ClassError(f"class {text_or_int.strip()} is out of range; give an id or a label")
        count = num_classes if num_classes is not None else len(labels or ())
        if labels and not -count <= int(text_or_int) < count and text_or_int.strip() in labels:
            return _in_range(_by_label(text_or_int, labels), num_classes)
    elif isinstance(text_or_int, bool):
        raise ClassError(f"{text_or_int} is no class; give an id or a label")
    return _in_range(int(text_or_int), num_classes)


def _by_label(text: str, labels: Sequence[str] | None) -> int:
    """Return the one class that a label fits best, or raise a ClassError."""
    wanted = text.strip().casefold()
    if not labels:
        raise ClassError(f"the class {text!r} is a label, but no labels are known; give an id or a labels file")
    folded = [label.casefold() for label in labels]
    if not wanted:
        raise ClassError("the class is empty; give an id or a label")
    synonyms = [[part.strip() for part in label.split(",")] for label in folded]
    word = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    tests = (
        [label == text for label in labels],
        [label.strip() == wanted for label in folded],
        [wanted in parts for parts in synonyms],
        [word.search(label) is not None for label in folded],
        [wanted in label for label in folded],
    )
    for test in tests:
        if any(test):
            return _only(text, [i for i, hit in enumerate(test) if hit], labels)
    close = _nearest(wanted, synonyms)
    near = "; the nearest are " + ", ".join(_named(i, labels) for i in close) if close else ""
    raise ClassError(f"no class is labelled {text!r}{near}")


def _nearest(wanted: str, synonyms: list[list[str]]) -> list[int]:
    """Return the classes with the labels most like a text, best first."""
    by_part: dict[str, int] = {}
    for index, parts in enumerate(synonyms):
        for part in parts:
            for word in (part, *part.split()):
                by_part.setdefault(word, index)
    close = nearest(wanted, by_part, 2 * _SHOWN)
    return list(dict.fromkeys(by_part[part] for part in close))[:_SHOWN]


def _only(text: str, matches: list[int], labels: Sequence[str]) -> int:
    """Return the one class that a text means, or raise a ClassError if it means several."""
    if len(matches) > 1:
        first = ", ".join(_named(i, labels) for i in matches[:_SHOWN])
        more = f" and {len(matches) - _SHOWN} more" if len(matches) > _SHOWN else ""
        raise ClassError(f"{text!r} means {len(matches)} classes: {first}{more}; give the id")
    return matches[0]


def _named(index: int, labels: Sequence[str]) -> str:
    """Return a class as messages show it: its id and its label."""
    return f"{index} ({labels[index]})"


def _in_range(index: int, num_classes: int | None) -> int:
    """Return a class id, or raise a ClassError if it is out of range."""
    if num_classes is not None and not -num_classes <= index < num_classes:
        raise ClassError(
            f"class {index} is out of range: the model has {num_classes} classes, 0 to {num_classes - 1}"
            f" (-1 to {-num_classes}: from its top class down)"
        )
    return index


def _from_text(text: str, source: str) -> list[str]:
    """Return the labels in a metadata value: JSON, a Python literal, lines, or a list with commas."""
    if text.lstrip()[:1] in ("{", "[", "("):
        try:
            return _from_data(load_json(text), source)
        except ValueError:
            pass  # not JSON; Ultralytics writes a Python dict
        try:
            return _from_data(load_literal(text), source)
        except ValueError as error:
            raise LabelsError(f"{source}: neither JSON nor a Python literal") from error
    if "\n" in text.strip():
        return _from_lines(text, source)
    parts = [part.strip() for part in text.split(",")]
    if len(parts) < 2:
        raise LabelsError(f"{source}: holds no list of labels")
    return parts


def _from_lines(text: str, source: str) -> list[str]:
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
    if len(pairs) == len(filled):
        return _by_id(((index, _clean(label)) for index, label in pairs), source)
    return [_clean(line) for line in lines]


def _from_data(data: Any, source: str) -> list[str]:
    """Return the labels in plain data: a list, or a dict by id, either alone or under one of the keys `_CONTAINERS`."""
    if isinstance(data, Mapping):
        for key in _CONTAINERS:
            if isinstance(data.get(key), (Mapping, list)):
                return _from_data(data[key], source)
        if not all(_is_id(key) for key in data):
            if data and all(_is_id(value) for value in data.values()):  # label2id: the other way round
                return _by_id(((int(index), _label(label, source)) for label, index in data.items()), source)
            odd = next((key for key in data if not _is_id(key)), None)
            raise LabelsError(f"{source}: labels by class id expected, but {reprlib.repr(odd)} is no id")
        return _by_id(((int(key), _label(value, source)) for key, value in data.items()), source)
    if not isinstance(data, (list, tuple)):
        raise LabelsError(
            f"{source}: must hold a list of labels, or labels by class id; it holds {type(data).__name__}"
        )
    if not data:
        raise LabelsError(f"{source}: has no labels")
    return [_label(value, source) for value in data]


def _is_id(value: Any) -> bool:
    """Tell whether a key or a value of a file is a class id: a whole number, perhaps in text."""
    return not isinstance(value, bool) and (
        isinstance(value, int) or (isinstance(value, str) and value.isdecimal() and len(value) <= _LONGEST_ID)
    )


def _label(value: Any, source: str) -> str:
    """Return the label that an entry of a file states, or raise a LabelsError if it states none."""
    if isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(v, str) for v in value):
        value = value[1]  # ImageNet's ["n01440764", "tench"]
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise LabelsError(f"{source}: a label must be text, not {reprlib.repr(value)}")
    return _clean(str(value))


def _clean(label: str) -> str:
    """Return a label without the blanks and the pair of quotes around it and the WordNet id before it."""
    label = label.strip()
    if len(label) > 1 and label[0] == label[-1] and label[0] in "\"'":
        label = label[1:-1].strip()
    return _SYNSET.sub("", label)


def _by_id(pairs: Iterable[tuple[int, str]], source: str) -> list[str]:
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
