"""What the formulas need of an array library: numpy has it, and so has the emitter of ONNX nodes.

Arrays have the operators of Python (`+`, `-`, `*`, `/`, `@`). Shapes use N = images, K = classes, C = channels and
S = positions, h w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Arrays(Protocol):
    """The operations that are spelled differently."""

    def relu(self, x: Any) -> Any:
        """max(x, 0)."""

    def absolute(self, x: Any) -> Any:
        """|x|."""

    def space_sum(self, x: Any) -> Any:
        """The sum over the last axis, which is dropped."""

    def space_mean(self, x: Any) -> Any:
        """The mean over the last axis, which is dropped."""

    def channel_sum(self, x: Any) -> Any:
        """`[N, K, C, S]` as `[N, K, S]`, summed over the channels."""

    def class_axis(self, x: Any) -> Any:
        """`[N, C, ...]` as `[N, 1, C, ...]`."""

    def space_axis(self, x: Any) -> Any:
        """`[N, K, C]` as `[N, K, C, 1]`."""

    def drop_space(self, x: Any) -> Any:
        """`[N, K, C, 1]` as `[N, K, C]`."""

    def positions(self, x: Any) -> Any:
        """The length of the last axis, as a number or a scalar."""

    def safe_divisor(self, x: Any) -> Any:
        """x where it is above 0, else 1."""

    def map_max(self, x: Any) -> Any:
        """The maximum over h and w of maps `[N, K, h, w]`, as `[N, K, 1, 1]`."""

    def maximum(self, x: Any, y: Any) -> Any:
        """The larger one, element by element."""

    def resize_linear(self, x: Any, size: Sequence[Any]) -> Any:
        """Maps `[N, K, h, w]` resized to another height and width, linearly between centres of pixels."""
