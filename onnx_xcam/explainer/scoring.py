"""This module computes scores of many masked or changed pictures, by a model without gradients."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam import contract
from onnx_xcam.cams.gradient_free import masks
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.explainer.cells import Cells
from onnx_xcam.explainer.load import LoadedModel
from onnx_xcam.images.input_spec import InputSpec
from onnx_xcam.runtime import Cancellation
from onnx_xcam.runtime.batching import changed_pictures_per_run
from onnx_xcam.surgery.axes.batch_independence import tell_apart


class Scorer:
    """A Scorer runs the model without gradients, which it opens when scores are first requested.

    Args:
        load: opens the model, instrumented to give the scores of classes.
        spec: layout and dtype of its image input.
    """

    def __init__(self, load: Callable[[], LoadedModel], spec: InputSpec) -> None:
        self._load, self._spec = load, spec
        self._opening = threading.Lock()
        self._loaded: LoadedModel | None = None

    @property
    def model(self) -> LoadedModel:
        """Return the model, which the first call opens."""
        with self._opening:
            self._loaded = self._loaded or self._load()
            return self._loaded

    def confidences(
        self, batch: NDArray[Any], cells: Cells, cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Return the probabilities of K cells, or their scores where the model gives none, float32 [B,K].

        Args:
            batch: preprocessed images.
            cells: the same for all images, with the very classes and candidates.
            cancellation: can end the runs from another thread.
        """
        if contract.PROBABILITIES in self.model.of_objects:
            return self._of(contract.PROBABILITIES, batch, cells, cancellation)
        source, ids = self.model.probabilities, cells.classes
        if source is None or ids is None:
            return self.scores(batch, cells, cancellation)
        parts = [
            source.of(table.reshape(len(table), -1)[:count], ids.repeat(count, axis=0))
            for count, table in self._runs(batch, cells, source.output, cancellation)
        ]
        return np.concatenate(parts)

    def scores(
        self, batch: NDArray[Any], cells: Cells, cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Return the scores of K cells for a batch of preprocessed images, float32 [B,K]."""
        return self._of(contract.SCORES, batch, cells, cancellation)

    def _of(
        self, output: str, batch: NDArray[Any], cells: Cells, cancellation: Cancellation | None
    ) -> NDArray[np.float32]:
        """Return an output with a number for each cell, for a batch of any size, float32 [B,K]."""
        return np.concatenate([table[:count] for count, table in self._runs(batch, cells, output, cancellation)])

    def masked_scores(
        self, item: NDArray[Any], activations: NDArray[np.floating[Any]], cells: Cells
    ) -> NDArray[np.float32]:
        """Return the scores of an image masked by each channel of a layer, float32 [K,C].

        A mask is the channel's activations, resized to the image and scaled to 0..1.

        Args:
            item: the preprocessed image, without the batch axis.
            activations: the layer's activations, `[C,h,w]`.
            cells: K cells, as for `confidences`.
        """
        channels_at = 0 if self._spec.layout == "NCHW" else 2
        height, width = (length for axis, length in enumerate(item.shape) if axis != channels_at)
        at_once = changed_pictures_per_run(height * width * 4 * 4, most=len(activations))  # masks, and three colours
        parts = []
        for start in range(0, len(activations), at_once):
            grown = NumpyArrays().resize_linear(activations[None, start : start + at_once], (height, width))[0]
            masked = item[None] * np.expand_dims(masks(grown.astype(np.float32, copy=False)), channels_at + 1)
            masked = np.rint(masked) if item.dtype.kind != "f" else masked
            parts.append(self.scores(masked.astype(item.dtype), cells))
        return np.concatenate(parts).T

    def _runs(
        self, batch: NDArray[Any], cells: Cells, output: str, cancellation: Cancellation | None
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Run a batch, and yield for each run the number of its images and the output."""
        model = self.model
        size = model.images_per_run(changed_pictures_per_run(batch[0].nbytes))

        def run(part: NDArray[Any]) -> NDArray[Any]:
            feeds = {**model.feeds(part), **cells.feeds()}
            return model.session.run(feeds, [output], cancellation)[output]

        if model.rows.mixed is None and (apart := tell_apart(batch[:size])):
            together = run(batch[:size])
            model.rows.compare((together[n], run(batch[n : n + 1])[0]) for n in apart)
        size = 1 if model.rows.mixed else size
        for start in range(0, len(batch), size):
            part = batch[start : start + size]
            yield len(part), run(part)
