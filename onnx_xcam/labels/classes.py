"""This module resolves labels to class ids, and finds the label of a class."""

from __future__ import annotations

import re
from collections.abc import Sequence

from onnx_xcam.common.suggestions import nearest
from onnx_xcam.errors import ClassError
from onnx_xcam.labels.formats import LONGEST_ID

_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d+\s*")
_SHOWN = 5
"""A message names at most this many classes."""


def label_of(index: int, labels: Sequence[str] | None) -> str | None:
    """Return the label of a class, or None where it has none (no labels, too few of them, or an empty one)."""
    if labels is None or not 0 <= index < len(labels):
        return None
    return labels[index] or None


def resolve_class(
    text_or_int: str | int, labels: Sequence[str] | None, num_classes: int | None, *, ranks: bool = True
) -> int:
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
        ranks: whether messages say that -2 and below are the second best class and so on.

    Raises:
        ClassError: the id is out of range, or the label is unknown (the message names the nearest ones) or fits
            several classes (the message lists them).
    """
    if isinstance(text_or_int, str):
        if not _WHOLE_NUMBER.fullmatch(text_or_int):
            return _in_range(_by_label(text_or_int, labels), num_classes, ranks)
        if len(text_or_int.strip()) > LONGEST_ID:
            raise ClassError(f"class {text_or_int.strip()} is out of range; give an id or a label")
        count = num_classes if num_classes is not None else len(labels or ())
        if labels and not -count <= int(text_or_int) < count and text_or_int.strip() in labels:
            return _in_range(_by_label(text_or_int, labels), num_classes, ranks)
    elif isinstance(text_or_int, bool):
        raise ClassError(f"{text_or_int} is no class; give an id or a label")
    return _in_range(int(text_or_int), num_classes, ranks)


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


def _in_range(index: int, num_classes: int | None, ranks: bool) -> int:
    """Return a class id, or raise a ClassError if it is out of range."""
    if num_classes is not None and not -num_classes <= index < num_classes:
        below = f" (-1 to {-num_classes}: from its top class down)" if ranks else ""
        raise ClassError(
            f"class {index} is out of range: the model has {num_classes} classes, 0 to {num_classes - 1}{below}"
        )
    return index
