"""This module places the windows of convolutions and of pooling, for the operators that compute window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np


class Windows:
    """A Windows object says where the windows of a convolution or of pooling lie in their input.

    Attributes:
        kernel, strides, dilations: one number for each spatial axis.
        pads: the amounts of padding, first before and then behind all spatial axes.
        reach: the length of a window along each spatial axis, which dilations make larger than the kernel.
        count: the number of windows along each spatial axis.
    """

    def __init__(self, op: Mapping[str, Any], size: Sequence[int], kernel: Sequence[int]) -> None:
        """Place the windows.

        Args:
            op: the attributes of the operator; None or missing where not given.
            size: the spatial sizes of the input.
            kernel: the spatial sizes of the kernel.
        """
        rank, auto_pad = len(kernel), op.get("auto_pad")
        self.kernel = kernel
        self.strides = op.get("strides") or [1] * rank
        self.dilations = op.get("dilations") or [1] * rank
        self.pads = list(op.get("pads") or [0] * 2 * rank)
        self.reach = reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            count = [-(-n // s) for n, s in zip(size, self.strides, strict=True)]
            parts = zip(count, self.strides, reach, size, strict=True)
            total = [max((c - 1) * s + r - n, 0) for c, s, r, n in parts]
            less, more = [t // 2 for t in total], [t - t // 2 for t in total]
            self.pads = [*less, *more] if auto_pad == "SAME_UPPER" else [*more, *less]
        elif auto_pad == "VALID":
            self.pads = [0] * 2 * rank
        ends = zip(size, self.pads[:rank], self.pads[rank:], reach, self.strides, strict=True)
        self.count = [(n + low + high - r) // s + 1 for n, low, high, r, s in ends]

    def take_partial(self, size: Sequence[int]) -> None:
        """Count also windows that start inside the padded input and reach beyond it, as ceil_mode demands."""
        rank = len(size)
        ends = zip(size, self.pads[:rank], self.pads[rank:], self.reach, self.strides, strict=True)
        counts = [(-(-(n + low + high - r) // s) + 1, (n + low - 1) // s + 1) for n, low, high, r, s in ends]
        self.count = [min(rounded, starting) for rounded, starting in counts]

    def offsets(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """Yield each element of the kernel, with the slices of the padded input that it is multiplied with."""
        for offset in product(*map(range, self.kernel)):
            parts = zip(offset, self.dilations, self.count, self.strides, strict=True)
            yield offset, tuple(slice(o * d, o * d + (c - 1) * s + 1, s) for o, d, c, s in parts)

    def positions(self, axis: int, window: int) -> Any:
        """Return the positions of the input under a window along an axis; those in the padding lie outside."""
        start = window * self.strides[axis] - self.pads[axis]
        return start + self.dilations[axis] * np.arange(self.kernel[axis])
