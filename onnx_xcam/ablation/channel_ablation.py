"""This module computes scores without single channels of a layer, and decomposes the scores behind the layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.ablation.batches import BatchSizes, difference, size_of
from onnx_xcam.ablation.runner import Runner, Values
from onnx_xcam.errors import ClassError, ModelError
from onnx_xcam.runtime import Cancellation, Session, batching
from onnx_xcam.surgery.submodels.score_decomposition import PARTS, output_of
from onnx_xcam.surgery.targets.layer import Layer

SCORE_TOLERANCE = {True: 1e-2, False: 0.1}
"""How far the score of the part behind the layer may be from the model's own, relative to the largest score.

The key says whether the part is exact, and does not round to float16 or to integers. In networks with values in the
thousands, two optimisations by ONNX Runtime of one model agree in three digits only; a wrong part agrees in none."""


@dataclass(frozen=True)
class ScoreDecomposition:
    """A ScoreDecomposition splits the scores of K classes into terms behind a layer, each float64 [K].

    score = layer + bias + side + remainder

    Attributes:
        scores: the scores S.
        layer: sum(G A) over the positions of the map, which is the sum of the channels' shares in XGrad-CAM.
        bias: the term of biases and other constants behind the layer, the bias term of equation 5 of the paper.
        side: the term of tensors that bypass the layer, and of tokens that the map does not show.
        magnitude: the sum of the magnitudes of all summands, which bounds how exact the terms can be.
        curved: the names of the nodes that are not piecewise affine.
    """

    scores: NDArray[np.float64]
    layer: NDArray[np.float64]
    bias: NDArray[np.float64]
    side: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    curved: tuple[str, ...]

    @property
    def remainder(self) -> NDArray[np.float64]:
        """Return the term of the curved nodes, float64 [K]; it is zero to numerical precision if there are none."""
        return self.scores - self.layer - self.bias - self.side


class ChannelAblation:
    """A ChannelAblation runs the part behind a layer for many masks of the layer's channels, for one image at a time.

    Args:
        runner: the part behind the layer, in its session.
        sizes: chooses how many masks are run at once.
        layer: the layer.
        score: the model's score, if it can be an output without changing how the model is run; else None.
        decomposition: opens the part that decomposes the scores, and returns its session and its curved nodes.
        is_exact: whether nothing is rounded to float16 or to integers.

    Attributes:
        layer: the name of the layer's tensor.
        layout: what the layer's axes mean.
        needed: the names of the model's tensors that a run of the model must return: the input of the part that stands
            for the layer, the tensors that bypass the layer, and the score.
    """

    def __init__(
        self,
        runner: Runner,
        sizes: BatchSizes,
        layer: Layer,
        score: str | None,
        *,
        decomposition: Callable[[], tuple[Session, tuple[str, ...]]],
        is_exact: bool,
    ) -> None:
        self._runner = runner
        self._open_decomposition = decomposition
        self._sizes = sizes
        self._score = score
        self._tolerance = SCORE_TOLERANCE[is_exact]
        self.layer = layer.public_name
        self.layout = layer.layout
        self.needed = tuple(dict.fromkeys([*(fed.name for fed in runner.cut.fed), *([score] if score else [])]))

    def scores(
        self, values: Values, classes: Sequence[int], cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Return the scores of classes from the part behind the layer, float32 [K], which are those of the model.

        Args:
            values: the tensors `needed` from a run of the model; only its first image is used.
            classes: K ids, not negative; with a single logit, class 1 has it for a score and class 0 its negative.
            cancellation: can end the runs from another thread.

        Raises:
            InputError: a value is missing or has a wrong shape.
            ClassError: a class does not exist.
            ModelError: the part behind the layer cannot be run, or does not give the model's score.
        """
        return np.asarray(self._without([], values, classes, cancellation)[0])

    def ablated(
        self, values: Values, classes: Sequence[int], cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """Return the scores without each channel, float32 [K,C]: at [k,c] is the score of class k if channel c is 0.

        In a layer of tokens, a channel is set to 0 in the tokens of the grid, which are those that a map shows.

        Args:
            values, classes, cancellation: as for `scores`.

        Raises:
            XcamError: as `scores`.
        """
        every = range(self._runner.channels(values))
        return np.ascontiguousarray(self._without(every, values, classes, cancellation)[1:].T)

    def _without(
        self, channels: Sequence[int], values: Values, classes: Sequence[int], cancellation: Cancellation | None
    ) -> NDArray[np.float32]:
        """Return the scores of the model, then those without each of the channels, float32 [1 + len(channels), K]."""
        left_out = np.array([-1, *channels])  # -1: leave out none
        size = self._sizes.of(values) if len(channels) else self._runner.images(values)
        rows, total = np.arange(size), self._runner.channels(values)
        tables = []
        for start in range(0, len(left_out), size):
            part = left_out[start : start + size]
            keep = np.ones((size, total), np.float32)
            keep[rows[: len(part)][part >= 0], part[part >= 0]] = 0
            tables.append(self._of_classes(self._runner.table(values, keep, cancellation), classes))
            if not start:
                self._check_score(values, tables[0][0], classes)
        return np.concatenate(tables)[: len(left_out)].astype(np.float32)

    def decomposition(
        self, values: Values, classes: Sequence[int], cancellation: Cancellation | None = None
    ) -> ScoreDecomposition:
        """Decompose the scores into the terms of the layer, of biases behind it, of bypasses, and the remainder.

        Args:
            values, classes, cancellation: as for `scores`.

        Raises:
            UnsupportedOpError: the model is quantised, or an operator has no gradient rule.
            XcamError: as `scores`.
        """
        own = self.scores(values, classes, cancellation)
        session, curved = self._decomposition
        images = self._runner.images(values)
        feeds = self._runner.feeds(values, np.ones((images, self._runner.channels(values)), np.float32))
        ids, names = np.array(list(classes), np.int64), [output_of(part) for part in PARTS]
        runs = []
        for start in range(0, len(ids), batching.CLASSES_OF_A_DECOMPOSITION):
            feeds["xcam_class"] = ids[None, start : start + batching.CLASSES_OF_A_DECOMPOSITION]
            runs.append(session.run(feeds, names, cancellation))
        joined = [np.concatenate([run[name] for run in runs]) / images if runs else np.zeros(0) for name in names]
        return ScoreDecomposition(own.astype(np.float64), **dict(zip(PARTS, joined, strict=True)), curved=curved)

    @cached_property
    def _decomposition(self) -> tuple[Session, tuple[str, ...]]:
        """Return the session of the part that decomposes the scores, and the names of its curved nodes."""
        return self._open_decomposition()

    def _of_classes(self, table: NDArray[np.float64], classes: Sequence[int]) -> NDArray[np.float64]:
        """Return the columns of some classes, or raise a ClassError if a class does not exist."""
        count = table.shape[1]
        wrong = [number for number in classes if not 0 <= number < count]
        if wrong:
            raise ClassError(f"Class {wrong[0]} does not exist: the model has the classes 0 to {count - 1}.")
        return np.asarray(table[:, list(classes)])

    def _check_score(self, values: Values, score: NDArray[np.float64], classes: Sequence[int]) -> None:
        """Raise a ModelError unless the part behind the layer gives the score that the model gave."""
        if self._score is None or self._score not in values:
            return
        own = self._runner.target.table(values[self._score], self._runner.images(values))[0]
        away = difference(score, own[list(classes)])
        if away > self._tolerance * size_of(own):
            raise ModelError(
                f"The part behind the layer '{self.layer}', run by itself, gives a score that differs from the model's "
                f"by {away:.3g}; please report this model."
            )
