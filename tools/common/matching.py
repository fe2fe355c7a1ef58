"""The tensor of a framework's own forward pass that holds a layer's activations is found by its values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Match:
    """A tensor of a forward pass that holds a layer's activations.

    Attributes:
        index: its place among the tensors of that pass.
        axes, shape: the permutation and the reshape that give it the layer's layout.
        difference: largest difference of the values, relative to the largest value.
    """

    index: int
    axes: tuple[int, ...]
    shape: tuple[int, ...]
    difference: float

    def to_layer(self, values: np.ndarray) -> np.ndarray:
        """Values of the tensor, or a gradient of it, as the layer has them; with any number of images."""
        return values.transpose(self.axes).reshape(-1, *self.shape[1:])

    def from_layer(self, values: np.ndarray, like: Sequence[int]) -> np.ndarray:
        """Values of the layer as the tensor, of which the shape is given, has them; with any number of images."""
        moved = [like[axis] for axis in self.axes]
        moved[0] = -1
        return values.reshape(moved).transpose(np.argsort(self.axes))


MOST_AXES = 5
"""Permutations are tried of tensors with up to so many axes."""
ROUGHLY = 1e-2
"""Sorted values that differ by more, relative to the largest, are another tensor's."""


def matches(tensors: Sequence[np.ndarray], activations: np.ndarray) -> list[Match]:
    """The tensors whose values come closest to `activations` [N,...], permuted and reshaped; several hold the same
    values and have different gradients, as x and the x.flatten(2) that only one branch reads. Empty if none fits.
    """
    wanted = activations.astype(np.float64)
    scale = max(float(np.abs(wanted).max()), 1e-30)
    ranked = np.sort(wanted, axis=None)
    close: list[Match] = []
    for index, tensor in enumerate(tensors):
        if tensor.size != wanted.size or tensor.ndim > MOST_AXES:
            continue
        values = tensor.astype(np.float64, copy=False)
        if float(np.abs(np.sort(values, axis=None) - ranked).max()) > ROUGHLY * scale:
            continue
        close += _arrangements(index, values, wanted, scale)
    best = min((one.difference for one in close), default=0.0)
    return [one for one in close if one.difference <= best + 1e-9]


def _arrangements(index: int, values: np.ndarray, wanted: np.ndarray, scale: float) -> list[Match]:
    """The first of the best permutations of a tensor's axes."""
    best: Match | None = None
    for axes in itertools.permutations(range(values.ndim)):
        if values.shape[axes[0]] % len(wanted):
            continue
        moved = values.transpose(axes).reshape(wanted.shape)
        difference = float(np.abs(moved - wanted).max()) / scale
        if best is None or difference < best.difference:
            best = Match(index, axes, tuple(wanted.shape), difference)
    return [] if best is None else [best]
