"""This module checks that an instrumented model gives the same outputs as the original model, as users run both.

Both run at ONNX Runtime's default level of optimisation. A float model is compared on one picture. A quantised model is
compared on several, because one picture may not show a changed rounding: random noise drives many models to the ends of
their integers. Its outputs may differ no further than the original's do among the levels of optimisation: a value
halfway between two integers is rounded to either, depending on the order of some additions, and products with weights
of few bits round their other factor at some levels only. The top class must stay the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_xcam.trials.comparison import output_difference, tolerance

VARIANTS = tuple((patches, contrast) for contrast in (1.0, 0.5, 0.25, 0.125) for patches in (3, 6, 12))
"""The pictures that a quantised model is tried on besides the first: patches along each side, and their contrast."""

Values = Mapping[str, Any]
"""The feeds or outputs of a run, by name."""


@dataclass(frozen=True)
class OutputCheck:
    """An OutputCheck says how far an original output differs in the instrumented model.

    Attributes:
        name: the name of the output.
        difference: the largest difference, relative to the output's largest value; 0 is bit-equal.
        passed: whether the difference is small enough and the top class is the same.
        pictures: the number of pictures on which the output was compared.
        other_classes: the number of pictures with another top class.
    """

    name: str
    difference: float
    passed: bool
    pictures: int = 1
    other_classes: int = 0

    def text(self) -> str:
        """Return the result as a line for people."""
        result = "bit-equal" if self.difference == 0 else f"differs by {self.difference:.1e} of its largest value"
        result += f" on {self.pictures} pictures" if self.pictures > 1 else ""
        result += f", and has another top class on {self.other_classes}" if self.other_classes else ""
        return f"output '{self.name}' of the instrumented model: {result}"


def patched(feeds: Values, axes: Mapping[str, tuple[int, int]], random: np.random.Generator) -> list[dict[str, Any]]:
    """Return more feeds, in which pictures consist of patches of values from the given picture, at several contrasts.

    Args:
        feeds: the given feeds; those that are no pictures stay the same.
        axes: the axes of height and width, for each feed that is a picture.
        random: the source of the patches.
    """
    return [
        {name: _patches(x, axes[name], how, random) if name in axes else x for name, x in feeds.items()}
        for how in VARIANTS
    ]


def _patches(
    picture: NDArray[Any], axes: tuple[int, int], how: tuple[int, float], random: np.random.Generator
) -> NDArray[Any]:
    count, contrast = how
    shape = [count if axis in axes else length for axis, length in enumerate(picture.shape)]
    middle = picture.mean(dtype=np.float64)
    patches = middle + contrast * (random.choice(picture.reshape(-1), shape) - middle)
    for axis in axes:
        patches = patches.take(np.arange(picture.shape[axis]) * count // picture.shape[axis], axis)
    return np.asarray(patches if picture.dtype.kind == "f" else patches.round()).astype(picture.dtype)


def check_output(
    name: str, before: Sequence[Values], after: Sequence[Values], levels: Sequence[Sequence[Values]], room: float
) -> OutputCheck:
    """Compare an output before and after on each picture, at the default level of optimisation.

    Args:
        name: the name of the output.
        before: the original model's outputs, picture by picture.
        after: the instrumented model's outputs.
        levels: the original model's outputs on the same pictures at each other level of optimisation; none for a float
            model.
        room: a relative difference that is allowed even where type and levels allow less.
    """
    rows = [[values[name] for values in run] for run in (before, after, *levels)]
    originals, ours, others = rows[0], rows[1], rows[2:]
    own = max((_largest(originals, run) for run in others), default=0.0)
    difference = _largest(originals, ours)
    changed = (
        sum(
            _has_another_class(our, [original, *elsewhere])
            for original, our, *elsewhere in zip(originals, ours, *others, strict=True)
        )
        if levels
        else 0
    )
    small = difference <= max(tolerance(originals[0]), own, room)
    return OutputCheck(name, difference, small and not changed, len(originals), changed)


def _largest(before: Sequence[Any], after: Sequence[Any]) -> float:
    return max(output_difference(first, second) for first, second in zip(before, after, strict=True))


def _has_another_class(ours: Any, originals: Sequence[Any]) -> bool:
    """Tell whether the top class of a row of an output `[N, C]` is the top class in none of the originals."""
    mine, theirs = _rows(ours), [_rows(output) for output in originals]
    if mine is None or mine.shape[1] < 2:
        return False
    top = mine.argmax(axis=1)[:, None]
    kept = [
        (np.take_along_axis(rows, top, axis=1) == rows.max(axis=1, keepdims=True))[:, 0]
        for rows in theirs
        if rows is not None and rows.shape == mine.shape
    ]
    return bool(kept) and not np.any(kept, axis=0).all()


def _rows(output: Any) -> NDArray[Any] | None:
    """Return an output as `[N, C]` without further axes of length 1; None if it has no such shape."""
    if not isinstance(output, np.ndarray) or output.ndim < 2 or output.size == 0:
        return None
    rows = output.reshape([len(output), *(length for length in output.shape[1:] if length > 1)])
    return rows if rows.ndim == 2 else None
