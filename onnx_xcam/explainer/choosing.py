"""This module turns the objects, places and contrasts that a user names into the inputs of a model of objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onnx_xcam.common.arguments import short_repr
from onnx_xcam.errors import ClassError
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.classes import MOST, Classes, by_image, choose_classes, ranked
from onnx_xcam.explainer.places import Places, read_places

Objects: TypeAlias = int | Sequence[int] | Sequence[Sequence[int]] | NDArray[np.integer[Any]]
"""Objects to explain: one, a sequence for every image, or one sequence per image, all of the same length."""


class ObjectsAsked(TypedDict, total=False):
    """This record holds what is asked of a model of objects beside classes; see `Explainer.explain`."""

    objects: Objects | None
    boxes: ArrayLike | None
    points: ArrayLike | None
    against: Classes | None


@dataclass(frozen=True, kw_only=True)
class Choosable:
    """A Choosable says what can be chosen in a model.

    Attributes:
        name: what messages call the model.
        task: what the model is for.
        class_count: the number of classes C, or None if unknown.
        labels: the C labels, if known.
        fixed: whether everything was fixed when the model was instrumented.
        objects: whether the model is one of objects, which can be chosen.
        boxes: whether the model tells the boxes of its objects.
        contrast: whether classes can be contrasted with others.
        candidate_count: the number of candidates Q, or None where only a run tells it.
    """

    name: str
    task: str
    class_count: int | None
    labels: Sequence[str] | None
    fixed: bool = False
    objects: bool = False
    boxes: bool = False
    contrast: bool = False
    candidate_count: int | None = None

    @property
    def has_free_objects(self) -> bool:
        """Tell whether objects can be chosen, and were not fixed when the model was instrumented."""
        return self.objects and not self.fixed

    def choose(self, classes: Classes | None, top: int | None, images: int, asked: ObjectsAsked) -> Cells:
        """Return what is explained; each field is int64 [1,K], or [images,K] where images differ.

        Raises:
            ClassError: a class or an object does not exist, or cannot be chosen in this model.
            InputError: a box or a point is none.
        """
        wanted = {name: value for name, value in asked.items() if value is not None}
        if self.fixed:
            if wanted or classes is not None or top is not None:
                raise ClassError(
                    f"{self.name} explains only what it was instrumented for; to choose something else, instrument "
                    "the original model with --class-input optional."
                )
            return Cells()
        self._refuse(wanted)
        against = self._against(asked.get("against"), images)
        if not self.objects:
            ids = self._ids(classes, top, images)
            _refuse_itself(ids, against)
            return _alike({"classes": ids, "against": against})
        kinds = [name for name in ("objects", "boxes", "points") if name in wanted]
        if len(kinds) + (top is not None) > 1:
            named = [*kinds, *(["top"] if top is not None else [])]
            raise ClassError(f"Give one of objects, boxes, points and top, not {' and '.join(named)}.")
        places = next((read_places(kind, wanted[kind], images) for kind in kinds if kind != "objects"), None)
        objects = _objects(asked.get("objects"), top, images, places)
        if self.candidate_count is not None and (objects >= self.candidate_count).any():
            raise ClassError(
                f"object {objects.max()} is out of range: {self.name} has {self.candidate_count} candidates, 0 to "
                f"{self.candidate_count - 1}; -1 is the best object that is kept."
            )
        own = np.array([[-1]], np.int64) if classes is None else self._own(classes, images)
        _refuse_itself(own, against)
        return _alike({"objects": objects, "classes": own, "against": against}, places)

    def _refuse(self, wanted: dict[str, Any]) -> None:
        """Raise a ClassError if something is asked for that the model does not have."""
        asked = [name for name in ("objects", "boxes", "points") if name in wanted]
        if asked and not self.objects:
            raise ClassError(
                f"{self.name} has no objects to choose by {asked[0]}: its task is {self.task}. Choose classes, or "
                "state the right task with --task (task=)."
            )
        if asked and asked[0] != "objects" and not self.boxes:
            raise ClassError(
                f"The boxes of {self.name} are not known, so no object can be found by {asked[0]}; choose objects by "
                "their rank, -1 for the best, or by their number."
            )
        if "against" in wanted and not self.contrast:
            raise ClassError(
                f"{self.name} cannot contrast classes; instrument the original model with --contrast (contrast=True)."
            )

    def _ids(self, classes: Classes | None, top: int | None, images: int, *, ranks: bool = True) -> NDArray[np.int64]:
        count, labels = self.class_count, self.labels
        return choose_classes(classes, top, images=images, class_count=count, labels=labels, ranks=ranks)

    def _own(self, classes: Classes, images: int) -> NDArray[np.int64]:
        """Return the classes that are asked of objects, of which -1 is the object's own."""
        ids = self._ids(classes, None, images, ranks=False)
        if (ids < -1).any():
            raise ClassError(
                f"class {ids.min()} is none: of an object, -1 is its own class; give an id or a label. The second best "
                "object is chosen with --object -2 (objects=-2)."
            )
        return ids

    def _against(self, against: Classes | None, images: int) -> NDArray[np.int64] | None:
        """Return the classes of a contrast, or None without one."""
        if against is None:
            return np.array([[-1]], np.int64) if self.contrast else None
        ids = self._ids(against, None, images, ranks=False)
        if (ids < -1).any():
            raise ClassError(f"class {ids.min()} is none to contrast with; give an id or a label, or -1 for none.")
        return ids


def _refuse_itself(classes: NDArray[np.int64], against: NDArray[np.int64] | None) -> None:
    """Raise a ClassError if a class is contrasted with itself, which leaves nothing to explain."""
    if against is None or not _fit(classes, against):
        return
    same = (classes == against) & (classes >= 0)
    if same.any():
        wrong = np.broadcast_to(classes, same.shape)[same][0]
        raise ClassError(f"class {wrong} is contrasted with itself; give another class to contrast it with.")


def _fit(first: NDArray[np.int64], second: NDArray[np.int64]) -> bool:
    """Tell whether two arrays [M,K] broadcast against each other."""
    return all(a == b or 1 in (a, b) for a, b in zip(first.shape, second.shape, strict=True))


def _objects(objects: Objects | None, top: int | None, images: int, places: Places | None) -> NDArray[np.int64]:
    """Return the objects, int64 [1,K] or [N,K]; -1 each for places, whose objects are found later."""
    if places is not None:
        return np.full(places.values.shape[:2], -1, np.int64)
    if top is not None:
        return ranked(top, None)
    if objects is None:
        return np.array([[-1]], np.int64)
    rows = by_image(objects, images, "objects", "the best object")
    wrong = [one for row in rows for one in row if isinstance(one, str) or not -MOST <= one < MOST]
    if wrong:
        raise ClassError(
            f"object {short_repr(wrong[0])} is none; give -1 for the best, -2 for the second best, or the number of a "
            "candidate."
        )
    return np.array(rows, np.int64)


def _alike(fields: dict[str, NDArray[np.int64] | None], places: Places | None = None) -> Cells:
    """Return cells of these fields, each repeated to the largest number of images and of cells.

    Raises:
        ClassError: the fields have different numbers of cells, none of them one.
    """
    given = {name: ids for name, ids in fields.items() if ids is not None}
    shape = np.max([ids.shape for ids in given.values()], axis=0)
    for name, ids in given.items():
        if ids.shape[1] not in (1, shape[1]):
            other = next(one for one, others in given.items() if others.shape[1] == shape[1])
            raise ClassError(
                f"There are {ids.shape[1]} {_CALLED[name]} for {shape[1]} {_CALLED[other]}; give one, or as many."
            )
    return Cells(places=places, **{name: np.broadcast_to(ids, shape) for name, ids in given.items()})


_CALLED = {"classes": "classes", "objects": "objects", "against": "classes to contrast with"}
