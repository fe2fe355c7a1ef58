"""This module has the cells of a score table that are explained, as the inputs of an instrumented model take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.explainer.places import Places
from onnx_xcam.feeds import padded

Ids = NDArray[np.int64]

_INPUTS = {
    "classes": contract.CLASS_INPUT,
    "objects": contract.OBJECT_INPUT,
    "against": contract.AGAINST_INPUT,
}
"""The input of the contract that each field of `Cells` is fed to."""


TOP = np.array([[-1]], np.int64)
"""The model's top class, of each image."""


@dataclass(frozen=True, eq=False)
class Cells:
    """A Cells states which cells of a model's score table are explained, K of each image.

    Each field is int64 [1,K], the same for all images, or [N,K], a row for each image; all that are there have one
    shape. A field is None where the model has no such input, or where its default is wanted. Without any field, the
    cells are those that were fixed when the model was instrumented.

    Attributes:
        classes: ids of classes; -1 and the like rank them, or for an object mean its own class.
        objects: -1 is the best object that is kept, -2 the second best; 0 and above is a candidate.
        against: the class with which each is contrasted, -1 for none.
        places: boxes or points in the photos that stand for objects, until `located` has found these.
    """

    classes: Ids | None = None
    objects: Ids | None = None
    against: Ids | None = None
    places: Places | None = None

    @property
    def count(self) -> int | None:
        """Return the number K of cells of each image, or None where they are fixed."""
        first = self._first()
        return None if first is None else first.shape[1]

    def rows(self, start: int, stop: int) -> Cells:
        """Return the cells of some of the images; cells that hold for all images stay as they are."""
        return self if self._holds_for_all() else self._changed(lambda ids: ids[start:stop])

    def columns(self, start: int, stop: int) -> Cells:
        """Return some of the K cells of each image."""
        return self._changed(lambda ids: ids[:, start:stop])

    def padded(self, images: int) -> Cells:
        """Return the cells with the last image's repeated up to a number of images."""
        return self if self._holds_for_all() else self._changed(lambda ids: padded(ids, images))

    def distinct(self) -> Cells:
        """Return the cells of the first image, each once."""
        given = self._given()
        if not given or self.places is not None:
            return self
        columns = list(dict.fromkeys(zip(*(ids[0].tolist() for ids in given.values()), strict=True)))
        return self._with(dict(zip(given, np.array(columns, np.int64).T[:, None], strict=True)))

    def located(self, objects: Ids) -> Cells:
        """Return the cells with the objects, [N,K], that were found at the places."""
        return replace(self._broadcast(self, objects.shape), objects=objects, places=None)

    def resolved(self, results: Mapping[str, NDArray[Any]]) -> Cells:
        """Return the very cells that a run has explained, [N,K], so that another run explains these and no others.

        What does not exist in an image, such as its third best object, stays as it was asked for.

        Args:
            results: the outputs of the run by name.
        """
        if self.count is None:
            return self
        classes = results[contract.CLASSES]
        if self.objects is None:
            return self._broadcast(replace(self, classes=classes), classes.shape)
        objects = results[contract.OBJECTS]
        asked = self._broadcast(self, objects.shape)
        there = objects >= 0
        return replace(
            asked,
            classes=np.where(there, classes, -1 if asked.classes is None else asked.classes),
            objects=np.where(there, objects, self.objects),
        )

    def feeds(self) -> dict[str, Ids]:
        """Return what the inputs of an instrumented model are fed, by their names in the contract."""
        return {_INPUTS[name]: ids for name, ids in self._given().items()}

    @staticmethod
    def _broadcast(cells: Cells, shape: tuple[int, ...]) -> Cells:
        """Return the cells with every field of one shape, [N,K]."""
        return cells._changed(lambda ids: np.broadcast_to(ids, shape))

    def _given(self) -> dict[str, Ids]:
        """Return the fields that are not None, by name."""
        return {name: ids for name in _INPUTS if (ids := getattr(self, name)) is not None}

    def _first(self) -> Ids | None:
        return next(iter(self._given().values()), None)

    def _holds_for_all(self) -> bool:
        """Tell whether the same cells are explained in every image."""
        return (first := self._first()) is None or len(first) == 1

    def _changed(self, change: Callable[[Ids], Ids]) -> Cells:
        """Return the cells with each field changed."""
        return self._with({name: change(ids) for name, ids in self._given().items()})

    def _with(self, ids: Mapping[str, Ids]) -> Cells:
        """Return the cells with other values of some fields."""
        fields: dict[str, Any] = {**self.__dict__, **ids}
        return Cells(**fields)
