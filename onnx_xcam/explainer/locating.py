"""This module finds the objects at places in photos, by a run of the model without gradients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.described import object_name
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.explainer.picture import Picture
from onnx_xcam.explainer.places import Kept, found_at
from onnx_xcam.labels import label_of
from onnx_xcam.runtime import Cancellation, Session

_OUTPUTS = (contract.OBJECTS, contract.BOXES, contract.CLASSES, contract.PROBABILITIES)
_ASKED = (100, 1000)
"""So many objects are asked for in the first run, and in a second one where there may be more."""


class Locator:
    """A Locator finds the objects that a model keeps at boxes or points; several threads may use it at once.

    Args:
        open_session: opens the part of the instrumented model that chooses objects, in a session. ONNX Runtime computes
            every output of a model in each run, so the whole model would compute the gradients of all objects.
        loaded: the instrumented model, which knows what its inputs are fed.
        labels: the C class labels, or None, for messages.
    """

    def __init__(
        self, open_session: Callable[[], Session] | None, loaded: LoadedModel, labels: Sequence[str] | None
    ) -> None:
        self._open, self._loaded, self._labels = open_session, loaded, labels
        self._opening = threading.Lock()
        self._opened: Session | None = None

    @property
    def session(self) -> Session:
        """Return the session, which the first call opens."""
        with self._opening:
            if self._opened is None:
                assert self._open is not None  # `load_model` sets it
                self._opened = self._open()
            return self._opened

    def located(
        self,
        cells: Cells,
        pictures: Sequence[Picture],
        cancellation: Cancellation | None = None,
        *,
        nth: int = 0,
        images: int | None = None,
    ) -> Cells:
        """Return cells whose places are replaced with the objects at them.

        Args:
            cells: what is explained; without places it is returned as it is.
            pictures: the pictures that the cells have rows for.
            cancellation: can end the runs from another thread.
            nth: the index of the first of the pictures among those of a call.
            images: the number of pictures of the call, if there are more than these.

        Raises:
            InputError: no object covers a place.
            XcamError: as `Session.run`.
        """
        if cells.places is None:
            return cells
        found = []
        for n, picture in enumerate(pictures):
            feeds = self._loaded.feeds(picture.item[None], nth + n, images or len(pictures))
            kept = self._kept(picture, feeds, cancellation)
            found.append([found_at(place, kept, picture.name) for place in cells.places.of_image(n)])
        return cells.located(np.array(found, np.int64))

    def _kept(self, picture: Picture, feeds: dict[str, NDArray[Any]], cancellation: Cancellation | None) -> Kept:
        """Return the objects that the model keeps in one picture."""
        for count in _ASKED:
            ranks = Cells(objects=-np.arange(1, count + 1, dtype=np.int64)[None])
            found = self.session.run({**feeds, **ranks.feeds()}, _OUTPUTS, cancellation)
            there = found[contract.OBJECTS][0] >= 0
            if not there.all():
                break
        objects, boxes, classes, p = (found[name][0][there] for name in _OUTPUTS)
        names = [
            object_name(class_id, label_of(class_id, self._labels), "", value)
            for class_id, value in zip(classes.tolist(), p.tolist(), strict=True)
        ]
        return Kept(objects, picture.placement.within_photo(picture.placement.to_photo(boxes)), names)
