"""This module chooses how many masks are run at once, within a bound on memory and without changing the scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.ablation.runner import Runner, Values
from onnx_xcam.errors import ModelError
from onnx_xcam.runtime.batching import masks_per_run
from onnx_xcam.surgery.analysis.peak_memory import bytes_more

_GUESSED = 16
"""A mask is taken to need this many times the memory of the layer, where its memory cannot be estimated."""
TOLERANCE = {True: 1e-4, False: 5e-2}
"""How far a score in a batch may be from the score of the same mask by itself, relative to the largest score.

The key says whether the part behind the layer is exact, and does not round to float16 or to integers."""


class BatchSizes:
    """BatchSizes choose how many masks of a layer are run at once, and keep the size for each shape of the layer.

    Args:
        runner: the part behind the layer.
        is_exact: whether nothing is rounded to float16 or to integers.
    """

    def __init__(self, runner: Runner, *, is_exact: bool) -> None:
        self._runner = runner
        self._tolerance = TOLERANCE[is_exact]
        self._by_shape: dict[tuple[int, ...], int] = {}

    def of(self, values: Values) -> int:
        """Return how many masks of an image's layer are run at once.

        The part behind a layer may compute something else for several images than for each of them: a batch size that
        is a constant in a Reshape, from the export of the model, may mix them. So a size is used only if some random
        masks have the same scores in it as in the size with which the model itself was run; else the latter is used.
        """
        shape = self._runner.layer(values).shape
        if shape not in self._by_shape:
            own, most = self._runner.images(values), self._most(values)
            self._by_shape[shape] = most if most > own and self._is_good(values, most, own) else own
        return self._by_shape[shape]

    def _most(self, values: Values) -> int:
        """Return the largest size to try: the number of channels, or as many masks as the bound on memory allows."""
        each = self.bytes_of_a_mask(values)
        if each is None:
            layer = self._runner.layer(values)
            each = _GUESSED * 4 * layer.size // self._runner.images(values)
        return min(self._runner.channels(values), masks_per_run(each, self._runner.session.providers[0]))

    def bytes_of_a_mask(self, values: Values) -> int | None:
        """Return the bytes that each further mask adds to the peak memory of a run; None if it cannot be estimated."""
        channels = self._runner.channels(values)
        few, more = (self._runner.feeds(values, np.ones((n, channels), np.float32)) for n in (2, 3))
        return bytes_more(self._runner.cut.skeleton, few, more)

    def _is_good(self, values: Values, size: int, own: int) -> bool:
        """Tell whether masks have the same scores in a run of `size` masks as in runs of `own` masks."""
        channels = self._runner.channels(values)
        keep = (np.random.default_rng(0).random((size, channels)) < 0.5).astype(np.float32)
        try:
            together = self._runner.table(values, keep)
        except ModelError:
            return False
        for row in sorted({0, size // 2, size - 1}):
            alone = self._runner.table(values, np.repeat(keep[row : row + 1], own, axis=0))[0]
            if together.shape[1:] != alone.shape or not np.isfinite(alone).any():  # no finite score can be compared
                return False
            if difference(together[row], alone) > self._tolerance * size_of(alone):
                return False
        return True


def difference(actual: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """Return the largest difference between two arrays; it is infinite if a value is finite in only one of them.

    Values that are finite in neither count as equal, since the order of a sum decides whether it is NaN or infinity.
    """
    finite = np.isfinite(expected)
    if (finite != np.isfinite(actual)).any():
        return np.inf
    return float(np.abs(actual[finite] - expected[finite]).max(initial=0))


def size_of(values: NDArray[np.floating]) -> float:
    """Return the largest magnitude of the finite values, or 1 if all of them are 0."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
