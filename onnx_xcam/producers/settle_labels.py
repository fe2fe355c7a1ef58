"""This module settles the labels of a model's classes from all that is said about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from onnx_xcam.errors import LabelsError
from onnx_xcam.producers.statement import Evidence, Statement

_MOVED = 0.1
"""Where more than this part of the names that two sources share stands at other ids, they contradict each other."""
_FROM_ONE = ", whose ids begin at 1: id 1 names class 0"
"""What is added to the source of labels whose empty id 0 is left out."""
_BACKGROUND = ("background", "dummy", "__background__", "other")


@dataclass(frozen=True)
class SettledLabels:
    """SettledLabels hold the labels of the classes with their origin.

    Attributes:
        labels: the labels by class id, or None.
        kind: the kind of the source, "none" where there are no labels.
        source: the source in words.
        contradictions: whole sentences on sources with other labels.
        doubts: those of them that are told unasked.
        remarks: whole sentences on labels that were found and are not used.
    """

    labels: tuple[str, ...] | None
    kind: Evidence | Literal["none"] = "none"
    source: str = ""
    contradictions: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def settle_labels(statements: Sequence[Statement], count: int | None, *, is_number: bool = False) -> SettledLabels:
    """Return the first labels whose number is that of the classes; where that is unknown, the first.

    Args:
        statements: all that is said, the strongest first.
        count: the number of classes, or None.
        is_number: whether the model's score is a number, for which a single label names no class.

    Raises:
        LabelsError: the user states labels of another number.
    """
    followed: Statement | None = None
    remarks: list[str] = []
    contradictions: list[str] = []
    doubts: list[str] = []
    moved = ""
    for statement in statements:
        labels = _without_background(statement.labels, count)
        if labels is None:
            continue
        if is_number and len(labels) == 1 and not statement.binding:
            remarks.append(f"{statement.source} has one label, which names a number and no class.")
        elif count is not None and len(labels) != count:
            if statement.binding:
                raise LabelsError(f"{_wrong_number(statement, count)}; give this model's with --labels (labels=).")
            sentence = _wrong_number(statement, count) + _one_more(labels, count) + ", so they are not used."
            (remarks if followed is None else contradictions).append(sentence)
        elif followed is None:
            followed = replace(statement, labels=labels)
            moved = "" if labels is statement.labels else _FROM_ONE
        elif statement.source != followed.source and (differ := _other_order(followed, statement)):
            contradictions.append(differ)
            doubts += [] if followed.evidence == "argument" else [differ]
    if followed is None:
        remarks += (remark for statement in statements for remark in statement.label_remarks)
        return SettledLabels(None, remarks=tuple(dict.fromkeys(remarks)))
    kind, source = followed.evidence, followed.source + moved
    told = (tuple(dict.fromkeys(sentences)) for sentences in (contradictions, doubts, remarks))
    return SettledLabels(followed.labels, kind, source, *told)


def _without_background(labels: tuple[str, ...] | None, count: int | None) -> tuple[str, ...] | None:
    """Return labels without the id 0 if the file leaves it out and the model has no class for it.

    The label maps of TensorFlow's object detection begin at 1, as 0 means the background there, and count the outputs
    of a model without a background from 1 (`label_id_offset` in its `exporter.py`).
    """
    if labels is not None and count is not None and len(labels) == count + 1 and not labels[0] and all(labels[1:]):
        return labels[1:]
    return labels


def _wrong_number(statement: Statement, count: int) -> str:
    """Return the part of a sentence that says how many labels there are, and how many classes."""
    given = len(statement.labels or ())
    return f"The labels {origin_of(statement.source)} are {given}, but the model has {count} classes"


def origin_of(source: str) -> str:
    """Return where labels come from, as a part of a sentence."""
    return "given as an argument" if source == "the argument" else f"from {source}"


def _one_more(labels: Sequence[str], count: int) -> str:
    """Return what there is to say of a first label that may be one too many: a class for the background."""
    if len(labels) != count + 1 or labels[0].strip().casefold() not in _BACKGROUND:
        return ""
    return f" (the first, {labels[0]!r}, may be one that this model has no class for)"


def _other_order(followed: Statement, other: Statement) -> str | None:
    """Return a sentence if two sources give the same names to other classes, else None."""
    first, second = ([_folded(label) for label in one.labels or ()] for one in (followed, other))
    once, once_there = ({name for name, times in Counter(names).items() if times == 1} for names in (first, second))
    places = {name: index for index, name in enumerate(second) if name in once & once_there}
    common = [index for index, name in enumerate(first) if name in places]
    moved = [index for index in common if places[first[index]] != index]
    if len(moved) <= _MOVED * len(common):
        return None
    at = moved[0]
    return (
        f"{other.source} has the label {(other.labels or ())[places[first[at]]]!r} for class {places[first[at]]}, but "
        f"{followed.source} has it for class {at}, which is followed."
    )


def _folded(label: str) -> str:
    """Return a label for comparisons: its first synonym, without regard to case."""
    return label.split(",", maxsplit=1)[0].strip().casefold()
