"""This module gives the scores of a model with channels of a layer left out, and what the scores are made of."""

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
"""How far the score of the part behind the layer may be from the model's own, relative to the largest one: where it is
exact, and where it rounds to float16 or to integers. Networks whose values grow to thousands have only three digits in
common with themselves, cut up otherwise by ONNX Runtime; a wrong part has none."""


@dataclass(frozen=True)
class ScoreDecomposition:
    """What the scores of K classes are made of behind a layer; each float64 [K].

    score = layer + bias + side + remainder

    Attributes:
        scores: S.
        layer: sum(G A) over the positions of the map: what the channels' shares add up to in XGrad-CAM.
        bias: what biases and other constants behind the layer add, the bias term of equation 5 of the paper.
        side: what goes round the layer adds, and what tokens add that the map does not show.
        magnitude: the sum of the magnitudes of all that was summed: how exact the numbers can be.
        curved: names of the nodes that are not piecewise affine.
    """

    scores: NDArray[np.float64]
    layer: NDArray[np.float64]
    bias: NDArray[np.float64]
    side: NDArray[np.float64]
    magnitude: NDArray[np.float64]
    curved: tuple[str, ...]

    @property
    def remainder(self) -> NDArray[np.float64]:
        """What the curved nodes add; zero to numerical precision where there are none."""
        return self.scores - self.layer - self.bias - self.side


class ChannelAblation:
    """Channel ablation at one layer: the part behind it is run for many masks of its channels, for one image at a time.

    Args:
        runner: the part behind the layer, in its session.
        sizes: how many masks it takes at once.
        layer: the layer.
        score: the model's score, where it can be asked for without changing how the model is run; else None.
        decomposition: opens the part that tells what its scores are made of, and names its curved nodes.
        is_exact: whether nothing is rounded to float16 or to integers.

    Attributes:
        layer: the layer's tensor.
        layout: what its axes mean.
        needed: names of the model's tensors that a run of it must give: what stands for the layer, the tensors that go
            round it, and the score.
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
        """The scores of classes by the part behind the layer alone, which are those of the model, float32 [K].

        Args:
            values: the tensors `needed`, from a run of the model; its first image is meant.
            classes: K ids, not negative; of a model of one logit, 1 has this score and 0 its negative.
            cancellation: what may end the runs from another thread.

        Raises:
            InputError: a value is missing or has a wrong shape.
            ClassError: a class does not exist.
            ModelError: the part behind the layer cannot be run, or does not give the model's score.
        """
        return np.asarray(self._without([], values, classes, cancellation)[0])

    def ablated(
        self, values: Values, classes: Sequence[int], cancellation: Cancellation | None = None
    ) -> NDArray[np.float32]:
        """The scores without each channel in turn, float32 [K,C]: at [k,c] that of class k where channel c is 0.

        Of a layer of tokens, a channel is 0 in the tokens of the grid, which are those that a map shows.

        Args:
            values, classes, cancellation: as `scores`.

        Raises:
            XcamError: as `scores`.
        """
        every = range(self._runner.channels(values))
        return np.ascontiguousarray(self._without(every, values, classes, cancellation)[1:].T)

    def _without(
        self, channels: Sequence[int], values: Values, classes: Sequence[int], cancellation: Cancellation | None
    ) -> NDArray[np.float32]:
        """The scores of the model, and those without each of some channels, float32 [1 + number of channels, K]."""
        left_out = np.array([-1, *channels])  # -1: none
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
        """What the scores are made of: the layer, the biases behind it, what goes round it, and what is left.

        Args:
            values, classes, cancellation: as `scores`.

        Raises:
            UnsupportedOpError: the model is quantised, or an operator has no gradient rule.
            XcamError: as `scores`.
        """
        own = self.scores(values, classes, cancellation)
        session, curved = self._decomposition
        images = self._runner.images(values)
        feeds = self._runner.feeds(values, np.ones((images, self._runner.channels(values)), np.float32))
        asked, names = np.array(list(classes), np.int64), [output_of(part) for part in PARTS]
        runs = []
        for start in range(0, len(asked), batching.CLASSES_OF_A_DECOMPOSITION):
            feeds["xcam_class"] = asked[None, start : start + batching.CLASSES_OF_A_DECOMPOSITION]
            runs.append(session.run(feeds, names, cancellation))
        joined = [np.concatenate([run[name] for run in runs]) / images if runs else np.zeros(0) for name in names]
        return ScoreDecomposition(own.astype(np.float64), **dict(zip(PARTS, joined, strict=True)), curved=curved)

    @cached_property
    def _decomposition(self) -> tuple[Session, tuple[str, ...]]:
        return self._open_decomposition()

    def _of_classes(self, table: NDArray[np.float64], classes: Sequence[int]) -> NDArray[np.float64]:
        count = table.shape[1]
        wrong = [number for number in classes if not 0 <= number < count]
        if wrong:
            raise ClassError(f"Class {wrong[0]} does not exist: the model has the classes 0 to {count - 1}.")
        return np.asarray(table[:, list(classes)])

    def _check_score(self, values: Values, found: NDArray[np.float64], classes: Sequence[int]) -> None:
        """Raise a ModelError unless the part behind the layer gives the score that the model gave."""
        if self._score is None or self._score not in values:
            return
        own = self._runner.target.table(values[self._score], self._runner.images(values))[0]
        away = difference(found, own[list(classes)])
        if away > self._tolerance * size_of(own):
            raise ModelError(
                f"The part behind the layer '{self.layer}', run by itself, gives a score that differs from the model's "
                f"by {away:.3g}; please report this model."
            )
