"""This module states the operations that the CAM formulas need of an array library.

Numpy offers them (`cams.numpy_arrays`), and so does the emitter of ONNX nodes. Arrays also have the operators of Python
(`+`, `-`, `*`, `/`, `@`, and `-x`). Shapes use N = images, K = classes, C = channels and S = positions, h w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Arrays(Protocol):
    """An array namespace offers these operations, which numpy and ONNX spell differently."""

    def relu(self, x: Any) -> Any:
        """Return max(x, 0), element by element."""

    def absolute(self, x: Any) -> Any:
        """Return |x|, element by element."""

    def square_root(self, x: Any) -> Any:
        """Return the square root of x, element by element."""

    def space_sum(self, x: Any) -> Any:
        """Return the sum over the last axis, which is dropped."""

    def space_mean(self, x: Any) -> Any:
        """Return the mean over the last axis, which is dropped."""

    def channel_sum(self, x: Any) -> Any:
        """Sum `[N, K, C, S]` over the channels and return `[N, K, S]`."""

    def channel_product(self, weights: Any, x: Any) -> Any:
        """Sum `[N, K, C, S]`, weighted by `[N, K, C]`, over the channels and return `[N, K, S]`."""

    def field_product(self, x: Any, field: Any) -> Any:
        """Sum `[N, K, C, S]`, weighted by `[N, K, S]`, over the positions and return `[N, K, C]`."""

    def swapped(self, x: Any) -> Any:
        """Return x with its last two axes swapped."""

    def class_axis(self, x: Any) -> Any:
        """Insert an axis for the classes: `[N, C, ...]` becomes `[N, 1, C, ...]`."""

    def space_axis(self, x: Any) -> Any:
        """Append an axis of length 1, for the positions: `[N, K, C]` becomes `[N, K, C, 1]`."""

    def drop_space(self, x: Any) -> Any:
        """Drop the axis of the positions: `[N, K, C, 1]` becomes `[N, K, C]`."""

    def positions(self, x: Any) -> Any:
        """Return the length of the last axis, as a number or a scalar array."""

    def safe_divisor(self, x: Any) -> Any:
        """Return x where it is above 0, and 1 elsewhere."""

    def map_max(self, x: Any) -> Any:
        """Return the maximum over h and w of maps `[N, K, h, w]`, as `[N, K, 1, 1]`."""

    def maximum(self, x: Any, y: Any) -> Any:
        """Return the larger of x and y, element by element."""

    def resize_linear(self, x: Any, size: Sequence[Any]) -> Any:
        """Resize maps `[N, K, h, w]` to another height and width, linearly between the centres of pixels."""
