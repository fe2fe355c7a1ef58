"""This module runs the part behind a layer: it makes the feeds from a run of the model, and returns a score table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.contract import Grid, Layout, shape_text
from onnx_xcam.errors import InputError, ModelError
from onnx_xcam.runtime import Cancellation, Session
from onnx_xcam.surgery.submodels.masked import KEEP, OTHERS, Fed, MaskedPart
from onnx_xcam.surgery.targets.target import Target

Values = Mapping[str, NDArray[Any]]
"""Tensors by name, from a run of the model; only the values of its first image are used."""


class Runner:
    """A Runner holds the part behind a layer in a session, and runs it.

    Args:
        session: the session of the part's model.
        cut: the part, with a mask of channels as an input.
        target: the score at the end of the part.
        layout: what the layer's axes mean.
        grid: how the tokens of the layer lie in a grid; None for a layer without tokens.
    """

    def __init__(self, session: Session, cut: MaskedPart, target: Target, layout: Layout, grid: Grid | None) -> None:
        self.session = session
        self.cut = cut
        self.target = target
        self.layout = layout
        self.grid = grid

    def table(
        self, values: Values, keep: NDArray[np.float32], cancellation: Cancellation | None = None
    ) -> NDArray[np.float64]:
        """Return the scores of all classes, [B, number of classes], for the masks float32 [B,C], in one run.

        Raises:
            ModelError: the part cannot be run for B masks, or gives no score for each.
        """
        try:
            score = self.session.run(self.feeds(values, keep), [self.cut.score], cancellation)[self.cut.score]
        except InputError as error:
            raise ModelError(f"The part behind the layer cannot be run: {error}") from error
        if score.size % len(keep) or (score.ndim and score.shape[0] not in (len(keep), score.size)):
            raise ModelError(
                f"The part behind the layer gives the score {shape_text(score.shape)} for {len(keep)} images."
            )
        return self.target.table(score, len(keep))

    def feeds(self, values: Values, keep: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Return the feeds of the part for masks float32 [B,C], by the names of its inputs."""
        feeds: dict[str, NDArray[Any]] = {KEEP: keep}
        feeds.update((fed.input, _first_image(values[fed.name], fed, len(keep))) for fed in self.cut.fed)
        if self.cut.others:
            assert self.grid is not None
            beside = np.ones(self.layer(values).shape[self.layout.find("T")], np.float32)
            beside[self.grid.tokens] = 0
            feeds[OTHERS] = beside
        return feeds

    def layer(self, values: Values) -> NDArray[Any]:
        """Return the value that stands for the layer, of all images of the model's run.

        Raises:
            InputError: a needed tensor is not among the values, or the layer's value has a wrong shape.
        """
        missing = [fed.name for fed in self.cut.fed if fed.name not in values]
        if missing:
            raise InputError(f"The value of '{missing[0]}' is needed beside the layer; see ChannelAblation.needed.")
        name = self.cut.fed[0].name
        array = values[name]
        if array.ndim != len(self.layout) or 0 in array.shape:
            raise InputError(f"The value of '{name}' has the shape {shape_text(array.shape)}, not {self.layout}.")
        return array

    def images(self, values: Values) -> int:
        """Return the number of images for which the model was run."""
        return int(self.layer(values).shape[self.layout.find("N")])

    def channels(self, values: Values) -> int:
        """Return the number C of channels of the layer."""
        return int(self.layer(values).shape[self.layout.find("C")])


def _first_image(array: NDArray[Any], fed: Fed, images: int) -> NDArray[Any]:
    """Return the first image's part of a tensor; in a tensor of lengths, set the number of images to `images`."""
    if fed.images is None:
        return array
    if fed.lengths:
        lengths = array.copy()
        lengths[fed.images] = images
        return lengths
    return array[(*[slice(None)] * fed.images, slice(0, 1))]
