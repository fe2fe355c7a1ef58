"""Whether the instrumented model still gives what the original gives, as users run both.

Both run at ONNX Runtime's default level of optimisation. A float model is compared on one picture. A quantised one is
compared on several, since on one picture a change of a rounding may hide: random noise drives many a model to the ends
of its integers. It may move no further than the original does by itself over the levels of optimisation: a value
that lies between two integers is rounded to either, depending on the order of some additions, and products with weights
of few bits round what they are given or not. And its top class stays.
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
"""Feeds or outputs of a run, by name."""


@dataclass(frozen=True)
class OutputCheck:
    """An original output.

    Attributes:
        name: the output.
        difference: the largest one relative to its largest value; 0 is bit-equal.
        passed: whether it is small enough, and the top class kept.
        pictures: on how many pictures it was looked at.
        other_classes: on how many of them the top class is another one.
    """

    name: str
    difference: float
    passed: bool
    pictures: int = 1
    other_classes: int = 0

    def text(self) -> str:
        """The finding for people."""
        said = "bit-equal" if self.difference == 0 else f"differs by {self.difference:.1e} of its largest value"
        said += f" on {self.pictures} pictures" if self.pictures > 1 else ""
        said += f", and has another top class on {self.other_classes}" if self.other_classes else ""
        return f"output '{self.name}' of the instrumented model: {said}"


def patched(feeds: Values, axes: Mapping[str, tuple[int, int]], random: np.random.Generator) -> list[dict[str, Any]]:
    """More feeds: pictures in patches of one colour each, of the values that the picture itself has, or less strong.

    Args:
        feeds: the first ones; what is no picture stays as it is.
        axes: of height and width, of those feeds that are pictures.
        random: where the patches come from.
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
    found = middle + contrast * (random.choice(picture.reshape(-1), shape) - middle)
    for axis in axes:
        found = found.take(np.arange(picture.shape[axis]) * count // picture.shape[axis], axis)
    return np.asarray(found if picture.dtype.kind == "f" else found.round()).astype(picture.dtype)


def check_output(
    name: str, before: Sequence[Values], after: Sequence[Values], levels: Sequence[Sequence[Values]], room: float
) -> OutputCheck:
    """An output on each picture, at the default level, before and after.

    Args:
        name: the output.
        before: the original's outputs, picture by picture.
        after: the instrumented model's.
        levels: the original's at other levels of optimisation, of each the same pictures; none for a float model.
        room: how far it may move besides what its type and the other levels allow.
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
    """Whether an output `[N, C]` has a largest value that none of the originals has as its largest."""
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
    """An output as `[N, C]`, axes of length 1 behind the first left out; None for any other."""
    if not isinstance(output, np.ndarray) or output.ndim < 2 or output.size == 0:
        return None
    found = output.reshape([len(output), *(length for length in output.shape[1:] if length > 1)])
    return found if found.ndim == 2 else None
