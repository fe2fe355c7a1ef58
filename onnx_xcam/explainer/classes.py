"""This module turns the classes that a user names into the model's `xcam_class` input, int64 [M,K]."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.common.arguments import is_listed, is_whole, short_repr
from onnx_xcam.errors import ClassError
from onnx_xcam.labels import resolve_class

ClassName: TypeAlias = int | str
Classes: TypeAlias = ClassName | Sequence[ClassName] | Sequence[Sequence[ClassName]] | NDArray[np.integer[Any]]
"""Classes to explain: one class, a sequence for every image, or one sequence per image, all of the same length."""


MOST = 1 << 24
"""Ids of classes and objects are smaller than this, also where it is unknown how many there are."""


def choose_classes(
    classes: Classes | None,
    top: int | None,
    *,
    images: int,
    class_count: int | None,
    labels: Sequence[str] | None,
    ranks: bool = True,
) -> NDArray[np.int64]:
    """Return the classes as int64 [1,K] (the same for every image) or [images,K].

    Args:
        classes: ids, labels, or -1 for the model's top class, -2 for the second best, and so on; None means -1.
        top: the number K of each image's best classes, to be explained instead of named classes.
        images: N.
        class_count: C, or None if unknown; then no class is out of range here, and a run refuses one that does not
            exist.
        labels: the C labels, if known.
        ranks: whether messages say that -2 and below are the second best class and so on.

    Raises:
        ClassError: a class is out of range, a label is unknown, the list is empty, or both arguments are given.
    """
    if top is not None:
        if classes is not None:
            raise ClassError("Give either classes or top, not both.")
        return ranked(top, class_count)
    rows = by_image([-1] if classes is None else classes, images, "classes", "the top class")
    ids = [[resolve_class(name, labels, class_count, ranks=ranks) for name in row] for row in rows]
    if beyond := [one for row in ids for one in row if not -MOST <= one < MOST]:
        raise ClassError(f"class {beyond[0]} is out of range")
    return np.array(ids, np.int64)


def ranked(top: int, class_count: int | None = None) -> NDArray[np.int64]:
    """Return the ids -1 to -top, which stand for the best, int64 [1,top].

    Raises:
        ClassError: top is no whole number, below 1, or above the number of classes, if that is given.
    """
    if not is_whole(top):
        raise ClassError(f"top is {short_repr(top)}; it must be a whole number, at least 1.")
    if top < 1 or (class_count is not None and top > class_count):
        bound = "" if class_count is None else f" and at most {class_count}, the model's number of classes"
        raise ClassError(f"top is {top}; it must be at least 1{bound}.")
    if top > MOST:
        raise ClassError(f"top is {top}; it must be at most {MOST}.")
    return -np.arange(1, top + 1, dtype=np.int64)[None]


def by_image(ids: Any, images: int, what: str, best: str) -> list[list[ClassName]]:
    """Return ids of any accepted form as one list per image, or as a single list for all images.

    Args:
        ids: ids or labels, in one of the forms of `Classes`.
        images: N.
        what: what they are, in the plural: "classes".
        best: what is explained without them: "the top class".

    Raises:
        ClassError: they have another form, are none, or their number is not the same for all images.
    """
    rows = _rows(ids, what)
    if len(rows) not in (1, images):
        raise ClassError(f"{what.capitalize()} are given for {len(rows)} images, but there are {images}.")
    lengths = {len(row) for row in rows}
    if lengths == {0} or not rows:
        raise ClassError(f"The list of {what} is empty; leave it out to explain {best}.")
    if len(lengths) > 1:
        raise ClassError(f"Each image needs the same number of {what}; these have {sorted(lengths)}.")
    return rows


def _rows(ids: Any, what: str) -> list[list[ClassName]]:
    """Return ids of any accepted form as one list per image, or as a single list for all images."""
    if isinstance(ids, str) or is_whole(ids):
        return [[_plain(ids)]]
    if not is_listed(ids):
        one = "a class (a number or a label)" if what == "classes" else "a number"
        raise ClassError(f"{what} is {short_repr(ids)}; it must be {one}, or a list of them.")
    items: list[Any] = list(ids)
    nested = [isinstance(item, list | tuple | np.ndarray) and np.ndim(item) > 0 for item in items]
    if items and all(nested):
        return [[_plain(name) for name in item] for item in items]
    if any(nested):
        raise ClassError(f"{what.capitalize()} are a list for all images, or one list per image; this mixes both.")
    return [[_plain(name) for name in items]]


def _plain(name: Any) -> ClassName:
    """Return a class id as a Python int, or a label, or raise a ClassError."""
    if isinstance(name, str):
        return name
    if is_whole(name):
        return operator.index(name)
    raise ClassError(f"A class is a whole number or a label, not {short_repr(name)}.")
