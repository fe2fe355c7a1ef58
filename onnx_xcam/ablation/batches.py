"""This module chooses how many masks are run at once: within a bound on memory, and with the scores of single ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.ablation.runner import Runner, Values
from onnx_xcam.errors import ModelError
from onnx_xcam.runtime.batching import masks_per_run
from onnx_xcam.surgery.analysis.peak_memory import bytes_more

_GUESSED = 16
"""Where the memory of a mask cannot be told, it is taken for so many times that of the layer."""
TOLERANCE = {True: 1e-4, False: 5e-2}
"""How far a score in a batch may be from the same one by itself, relative to the largest one: where the part
behind the layer is exact, and where it rounds to float16 or to integers."""


class BatchSizes:
    """The sizes that were found good, by the shape of the layer.

    Args:
        runner: the part behind the layer.
        is_exact: whether nothing is rounded to float16 or to integers.
    """

    def __init__(self, runner: Runner, *, is_exact: bool) -> None:
        self._runner = runner
        self._tolerance = TOLERANCE[is_exact]
        self._found: dict[tuple[int, ...], int] = {}

    def of(self, values: Values) -> int:
        """How many masks of an image's layer are run at once.

        The part behind a layer may do something else with several images than with each: a batch size, baked into a
        Reshape when the model was exported, may mix them. So a size counts as good only if some random masks have the
        score in it that they have in a run of the size that the model itself was run with, which is what is left if
        it is not.
        """
        shape = self._runner.layer(values).shape
        if shape not in self._found:
            own, most = self._runner.images(values), self._most(values)
            self._found[shape] = most if most > own and self._is_good(values, most, own) else own
        return self._found[shape]

    def _most(self, values: Values) -> int:
        """As many as there are channels, and as are within the bound."""
        each = self.bytes_of_a_mask(values)
        if each is None:
            layer = self._runner.layer(values)
            each = _GUESSED * 4 * layer.size // self._runner.images(values)
        return min(self._runner.channels(values), masks_per_run(each, self._runner.session.providers[0]))

    def bytes_of_a_mask(self, values: Values) -> int | None:
        """What one mask more takes at the worst moment of a run; None if it cannot be told."""
        channels = self._runner.channels(values)
        few, more = (self._runner.feeds(values, np.ones((n, channels), np.float32)) for n in (2, 3))
        return bytes_more(self._runner.cut.skeleton, few, more)

    def _is_good(self, values: Values, size: int, own: int) -> bool:
        """Whether masks have the same scores in a run of `size` as in runs of `own` of them."""
        channels = self._runner.channels(values)
        keep = (np.random.default_rng(0).random((size, channels)) < 0.5).astype(np.float32)
        try:
            together = self._runner.table(values, keep)
        except ModelError:
            return False
        for row in sorted({0, size // 2, size - 1}):
            alone = self._runner.table(values, np.repeat(keep[row : row + 1], own, axis=0))[0]
            if together.shape[1:] != alone.shape or not np.isfinite(alone).any():  # the latter would tell nothing
                return False
            if difference(together[row], alone) > self._tolerance * size_of(alone):
                return False
        return True


def difference(found: NDArray[np.floating], expected: NDArray[np.floating]) -> float:
    """The largest difference; infinite where only one of two is finite.

    Where neither is finite they count as the same: which of NaN and infinity a sum gives depends on its order.
    """
    finite = np.isfinite(expected)
    if (finite != np.isfinite(found)).any():
        return np.inf
    return float(np.abs(found[finite] - expected[finite]).max(initial=0))


def size_of(values: NDArray[np.floating]) -> float:
    """The largest magnitude of those that are finite; 1 where all are 0."""
    return float(np.abs(values[np.isfinite(values)]).max(initial=0)) or 1.0
