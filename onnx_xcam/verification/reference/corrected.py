"""Operators for the ONNX reference evaluator, where its own are wrong or too slow to wait for.

Wrong, by the specification (onnx 1.23):
- Erf computes in float32 whatever its type; Gelu is a function over it.
- AffineGrid computes in float32 whatever its type.
- AveragePool gives NaN where a window is larger than the input, and lays all windows out, gigabytes of large ones.
- BatchNormalization before opset 14 mixes the batch's own statistics into the running ones.
- ConvTranspose takes the wrong weights for groups, unless these are depthwise.
- GatherElements and ScatterElements know no indices that are fewer than the elements along the other axes.
- GlobalLpPool it does not have at all.
- GlobalMaxPool takes the wrong axes unless there are two in space.
- GridSample computes positions in float32, does not know the modes by their names before opset 20, and in mode cubic
  moves the position where another pixel must be taken.
- GroupNormalization computes in float32 whatever its type.
- LpNormalization with p = 1 adds the elements, not their absolute values.
- LRN runs over as many channels as there are images.
- MeanVarianceNormalization is a function that takes float32 only.
- Pad knows no negative amounts.
- Softmax and LogSoftmax before opset 13 flatten the axes from `axis` on; it applies the later definition.

Slow: Conv, ConvTranspose and MaxPool loop over output positions; so does Resize, also where it only repeats elements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import onnx
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_resize import Resize as _AnyResize


class Erf(OpRun):
    """Erf."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (np.vectorize(math.erf, otypes=[x.dtype])(x),)


class Gelu(OpRun):
    """Gelu."""

    op_domain = ""

    def _run(self, x: Any, approximate: Any = None) -> tuple[Any, ...]:
        if approximate == "tanh":
            return (x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)
        return (x / 2 * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / np.sqrt(2))),)


def _old_softmax(x: np.ndarray, node: onnx.NodeProto) -> np.ndarray:
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    rows = x.reshape(int(np.prod(x.shape[: axis % x.ndim])), -1)
    powers = np.exp(rows - rows.max(1, keepdims=True))
    return np.asarray((powers / powers.sum(1, keepdims=True)).reshape(x.shape))


class Softmax(OpRun):
    """Softmax."""

    op_domain = ""

    def _run(self, x: Any, axis: Any = None) -> tuple[Any, ...]:
        return (_old_softmax(x, self.onnx_node),)


class LogSoftmax(OpRun):
    """LogSoftmax."""

    op_domain = ""

    def _run(self, x: Any, axis: Any = None) -> tuple[Any, ...]:
        return (np.log(_old_softmax(x, self.onnx_node)),)


class AffineGrid(OpRun):
    """AffineGrid."""

    op_domain = ""

    def _run(self, theta: Any, size: Any, align_corners: Any = None) -> tuple[Any, ...]:
        lines = [np.linspace(-1, 1, n) if align_corners else (2 * np.arange(n) + 1) / n - 1 for n in size[2:]]
        points = np.meshgrid(*lines, indexing="ij")[::-1]
        regular = np.stack([*points, np.ones(size[2:])], -1)
        return (np.einsum("...j,nij->n...i", regular, theta).astype(theta.dtype),)


class BatchNormalization(OpRun):
    """BatchNormalization."""

    op_domain = ""

    def _run(self, x: Any, *statistics: Any, epsilon: Any = None, **_: Any) -> tuple[Any, ...]:
        scale, bias, mean, var = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in statistics)
        return (scale * (x - mean) / np.sqrt(var + np.float32(epsilon)) + bias,)


class GlobalMaxPool(OpRun):
    """GlobalMaxPool."""

    op_domain = ""

    def _run(self, x: Any) -> tuple[Any, ...]:
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class GlobalLpPool(OpRun):
    """GlobalLpPool."""

    op_domain = ""

    def _run(self, x: Any, p: Any = None) -> tuple[Any, ...]:
        p = p or 2
        return ((abs(x) ** p).sum(axis=tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


def _places(indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    places: list[np.ndarray] = list(np.indices(indices.shape))
    places[axis] = indices
    return tuple(places)


class GatherElements(OpRun):
    """GatherElements."""

    op_domain = ""

    def _run(self, x: Any, indices: Any, axis: Any = None) -> tuple[Any, ...]:
        return (x[_places(indices, axis or 0)],)


class ScatterElements(OpRun):
    """ScatterElements."""

    op_domain = ""

    def _run(self, x: Any, indices: Any, updates: Any, axis: Any = None, reduction: Any = None) -> tuple[Any, ...]:
        y, places = x.copy(), _places(indices, axis or 0)
        reduced = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}.get(reduction)
        if reduced is None:
            y[places] = updates
        else:
            reduced.at(y, places, updates)
        return (y,)


class GroupNormalization(OpRun):
    """GroupNormalization, as it is since opset 21."""

    op_domain = ""

    def _run(
        self, x: Any, scale: Any, bias: Any, num_groups: Any = None, epsilon: Any = None, **_: Any
    ) -> tuple[Any, ...]:
        groups = x.reshape(len(x), num_groups, -1)
        centred = groups - groups.mean(2, keepdims=True)
        normal = centred / np.sqrt((centred**2).mean(2, keepdims=True) + (1e-5 if epsilon is None else epsilon))
        scale, bias = (v.reshape(-1, *[1] * (x.ndim - 2)) for v in (scale, bias))
        return (normal.reshape(x.shape) * scale + bias,)


class GridSample(OpRun):
    """GridSample."""

    op_domain = ""

    def _run(
        self, x: Any, grid: Any, mode: Any = None, padding_mode: Any = None, align_corners: Any = None
    ) -> tuple[Any, ...]:
        lines = []
        for axis, size in enumerate(x.shape[2:]):
            n = grid[..., x.ndim - 3 - axis]
            c = (n + 1) / 2 * (size - 1) if align_corners else ((n + 1) * size - 1) / 2
            lines.append([(*_pixel(i, size, padding_mode, align_corners), w) for i, w in _cell(c, mode)])
        y: Any = 0
        images = np.arange(len(x)).reshape(-1, *[1] * (grid.ndim - 2))
        for taps in product(*lines):
            weight = np.prod([known * w for _, known, w in taps], axis=0)
            y = y + x[(images, slice(None), *(i for i, _, _ in taps))] * weight[..., None]
        return (np.moveaxis(y, -1, 1),)


def _cell(c: np.ndarray, mode: str) -> list[tuple[np.ndarray, Any]]:
    """The pixels that positions read along an axis, and their weights."""
    if mode == "nearest":
        return [(np.rint(c), np.ones(c.shape, c.dtype))]
    reach, weigh = (2, _cubic_weight) if "cubic" in mode else (1, lambda d: 1 - d)
    pixels = [np.floor(c) + j for j in range(1 - reach, reach + 1)]
    return [(i, weigh(abs(c - i))) for i in pixels]


def _cubic_weight(d: np.ndarray, a: float = -0.75) -> np.ndarray:
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, far)


def _pixel(i: np.ndarray, size: int, padding: str, align_corners: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixel that is read for pixel i of an axis, and whether it counts."""
    known = (i >= 0) & (i < size) | (padding != "zeros")
    if padding == "reflection":
        low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
        while ((i < low) | (i > high)).any() and size > 1:
            i = np.where(i < low, 2 * low - i, i)
            i = np.where(i > high, 2 * high - i, i)
    return np.clip(i, 0, size - 1).astype(np.int64), known


class LpNormalization(OpRun):
    """LpNormalization."""

    op_domain = ""

    def _run(self, x: Any, axis: Any = None, p: Any = None) -> tuple[Any, ...]:
        axis = -1 if axis is None else axis
        norm = abs(x).sum(axis, keepdims=True) if p == 1 else np.sqrt((x * x).sum(axis, keepdims=True))
        return (np.where(norm == 0, 0, x / np.where(norm == 0, 1, norm)),)


class LRN(OpRun):
    """LRN."""

    op_domain = ""

    def _run(self, x: Any, alpha: Any = None, beta: Any = None, bias: Any = None, size: Any = None) -> tuple[Any, ...]:
        before, after = (size - 1) // 2, size // 2
        sums = [(x[:, max(c - before, 0) : c + after + 1] ** 2).sum(1) for c in range(x.shape[1])]
        return (x / (bias + alpha / size * np.stack(sums, 1)) ** beta,)


class MeanVarianceNormalization(OpRun):
    """MeanVarianceNormalization."""

    op_domain = ""

    def _run(self, x: Any, axes: Any = None) -> tuple[Any, ...]:
        over = tuple(axes or (0, 2, 3))
        centred = x - x.mean(over, keepdims=True)
        return (centred / (np.sqrt((centred**2).mean(over, keepdims=True)) + 1e-9),)


class Pad(OpRun):
    """Pad."""

    op_domain = ""

    def _run(self, x: Any, pads: Any, value: Any = None, axes: Any = None, mode: Any = None) -> tuple[Any, ...]:
        axes = range(x.ndim) if axes is None else axes
        mode = mode or "constant"
        for axis, low, high in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
            x = np.take(x, np.arange(max(-low, 0), x.shape[axis] - max(-high, 0)), axis)
            amounts = [(0, 0)] * x.ndim
            amounts[axis] = (max(low, 0), max(high, 0))
            fill = {"constant_values": 0 if value is None else np.asarray(value).item()} if mode == "constant" else {}
            x = np.pad(x, amounts, mode=mode, **fill)
        return (x,)


class Resize(_AnyResize):
    """Resize."""

    op_domain = ""

    def _run(  # type: ignore[override]
        self, x: Any, roi: Any, scales: Any = None, sizes: Any = None, **how: Any
    ) -> tuple[Any, ...]:
        ways = tuple(how.get(name) for name in ("mode", "coordinate_transformation_mode", "nearest_mode"))
        whole = scales is not None and np.size(scales) == x.ndim and bool(np.all(scales == np.round(scales)))
        if not whole or ways != ("nearest", "asymmetric", "floor") or how.get("axes") is not None:
            result: tuple[Any, ...] = super()._run(x, roi, scales, sizes, **how)
            return result
        for axis, scale in enumerate(scales):
            x = np.repeat(x, int(scale), axis)
        return (x,)


class _Windows:
    """Where the windows of a convolution lie; `size` are the spatial sizes of its input."""

    def __init__(self, op: Any, size: Sequence[int], kernel: Sequence[int]) -> None:
        rank = len(kernel)
        self.kernel = kernel
        self.strides = op["strides"] or [1] * rank
        self.dilations = op["dilations"] or [1] * rank
        self.pads = list(op["pads"] or [0] * 2 * rank)
        self.reach = reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        if op["auto_pad"] in ("SAME_UPPER", "SAME_LOWER"):
            count = [-(-n // s) for n, s in zip(size, self.strides, strict=True)]
            parts = zip(count, self.strides, reach, size, strict=True)
            total = [max((c - 1) * s + r - n, 0) for c, s, r, n in parts]
            less, more = [t // 2 for t in total], [t - t // 2 for t in total]
            self.pads = [*less, *more] if op["auto_pad"] == "SAME_UPPER" else [*more, *less]
        elif op["auto_pad"] == "VALID":
            self.pads = [0] * 2 * rank
        ends = zip(size, self.pads[:rank], self.pads[rank:], reach, self.strides, strict=True)
        self.count = [(n + low + high - r) // s + 1 for n, low, high, r, s in ends]

    def take_partial(self, size: Sequence[int]) -> None:
        """Count windows that reach beyond the padded input too (ceil_mode), if they start inside."""
        rank = len(size)
        ends = zip(size, self.pads[:rank], self.pads[rank:], self.reach, self.strides, strict=True)
        counts = [(-(-(n + low + high - r) // s) + 1, (n + low - 1) // s + 1) for n, low, high, r, s in ends]
        self.count = [min(rounded, starting) for rounded, starting in counts]

    def offsets(self) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """For each element of the kernel, the positions of the padded input that it meets."""
        for offset in product(*map(range, self.kernel)):
            parts = zip(offset, self.dilations, self.count, self.strides, strict=True)
            yield offset, tuple(slice(o * d, o * d + (c - 1) * s + 1, s) for o, d, c, s in parts)

    def positions(self, axis: int, window: int) -> Any:
        """The positions of the input that a window meets along an axis; those in the padding lie outside."""
        start = window * self.strides[axis] - self.pads[axis]
        return start + self.dilations[axis] * np.arange(self.kernel[axis])


class Conv(OpRun):
    """Conv."""

    op_domain = ""

    def _run(self, x: Any, w: Any, b: Any = None, group: Any = None, **op: Any) -> tuple[Any, ...]:
        op = {"auto_pad": None, "dilations": None, "pads": None, "strides": None, **op}
        windows, group, rank = _Windows(op, x.shape[2:], w.shape[2:]), group or 1, x.ndim - 2
        padded: Any = np.pad(x, [(0, 0), (0, 0), *zip(windows.pads[:rank], windows.pads[rank:], strict=True)])
        padded = padded.reshape(len(x), group, -1, *padded.shape[2:])
        filters = w.reshape(group, -1, *w.shape[1:])
        result: Any = np.zeros((len(x), group, filters.shape[1], *windows.count), np.result_type(x, w))
        for offset, where in windows.offsets():
            taken = padded[(..., *where)].reshape(*padded.shape[:3], -1)
            result += (filters[(..., *offset)] @ taken).reshape(result.shape)
        result = result.reshape(len(x), -1, *windows.count)
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)


class MaxPool(OpRun):
    """MaxPool."""

    op_domain = ""

    def _run(self, x: Any, kernel_shape: Any = None, ceil_mode: Any = None, **op: Any) -> tuple[Any, ...]:
        op = {"auto_pad": None, "dilations": None, "pads": None, "strides": None, **op}
        windows, size, rank = _Windows(op, x.shape[2:], kernel_shape), x.shape[2:], x.ndim - 2
        if ceil_mode:
            windows.take_partial(size)
        places = np.arange(x.size).reshape(x.shape)
        best = np.full((*x.shape[:2], *windows.count), -np.inf)
        found = np.zeros(best.shape, np.int64)
        margin = [
            (low, high + r)
            for low, high, r in zip(windows.pads[:rank], windows.pads[rank:], windows.reach, strict=True)
        ]
        padded: Any = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *margin], constant_values=-np.inf)
        spread: Any = np.pad(places, [(0, 0), (0, 0), *margin])
        for _, where in windows.offsets():
            value = padded[(..., *where)]
            better = value > best
            best, found = np.where(better, value, best), np.where(better, spread[(..., *where)], found)
        return best.astype(x.dtype), found


class AveragePool(OpRun):
    """AveragePool."""

    op_domain = ""

    def _run(
        self, x: Any, kernel_shape: Any = None, ceil_mode: Any = None, count_include_pad: Any = None, **op: Any
    ) -> tuple[Any, ...]:
        op = {"auto_pad": None, "dilations": None, "pads": None, "strides": None, **op}
        windows, size = _Windows(op, x.shape[2:], kernel_shape), x.shape[2:]
        if ceil_mode:
            windows.take_partial(size)
        result: Any = np.empty((*x.shape[:2], *windows.count), x.dtype)
        for window in product(*map(range, windows.count)):
            met = [windows.positions(axis, index) for axis, index in enumerate(window)]
            inside = [p[(p >= 0) & (p < n)] for p, n in zip(met, size, strict=True)]
            ends = zip(met, size, windows.pads[len(size) :], strict=True)
            counted = [p[p < n + end] for p, n, end in ends] if count_include_pad else inside
            total = x[(..., *np.ix_(*inside))].sum(axis=tuple(range(2, x.ndim)))
            result[(..., *window)] = total / math.prod(map(len, counted))
        return (result,)


class ConvTranspose(OpRun):
    """ConvTranspose."""

    op_domain = ""

    def _run(  # noqa: PLR0917  the evaluator calls it so
        self,
        x: Any,
        w: Any,
        b: Any = None,
        group: Any = None,
        output_padding: Any = None,
        output_shape: Any = None,
        **op: Any,
    ) -> tuple[Any, ...]:
        op = {"auto_pad": None, "dilations": None, "pads": None, "strides": None, **op}
        rank, group, size, kernel = x.ndim - 2, group or 1, x.shape[2:], w.shape[2:]
        strides, dilations = op["strides"] or [1] * rank, op["dilations"] or [1] * rank
        extra, same = output_padding or [0] * rank, op["auto_pad"] in ("SAME_UPPER", "SAME_LOWER")
        parts = zip(size, strides, kernel, dilations, extra, strict=True)
        full = [(n - 1) * s + (k - 1) * d + 1 + e for n, s, k, d, e in parts]
        shape = output_shape or ([n * s for n, s in zip(size, strides, strict=True)] if same else None)
        pads = [0] * 2 * rank if op["auto_pad"] == "VALID" else op["pads"] or [0] * 2 * rank
        begin = pads[:rank]
        if shape:
            total = [f - n for f, n in zip(full, shape, strict=True)]
            begin = [t // 2 if op["auto_pad"] == "SAME_UPPER" else t - t // 2 for t in total]
        shape = shape or [f - low - high for f, low, high in zip(full, begin, pads[rank:], strict=True)]
        low, high = (
            max(0, *(-n for n in begin)),
            max(0, *(b + n - f for b, n, f in zip(begin, shape, full, strict=True))),
        )
        space = [f + low + high for f in full]
        images = x.reshape(len(x), group, -1, int(np.prod(size)))
        filters = w.reshape(group, -1, *w.shape[1:])
        canvas: Any = np.zeros((len(x), group, w.shape[1], *space), np.result_type(x, w))
        windows = _Windows({**op, "auto_pad": None, "pads": None}, space, kernel)
        windows.count = list(size)
        for offset, where in windows.offsets():
            shifted = tuple(slice(s.start + low, s.stop + low, s.step) for s in where)
            canvas[(..., *shifted)] += (filters[(..., *offset)].swapaxes(1, 2) @ images).reshape(
                *canvas.shape[:3], *size
            )
        cut = tuple(slice(n + low, n + low + length) for n, length in zip(begin, shape, strict=True))
        result = canvas.reshape(len(x), -1, *space)[(..., *cut)]
        return (result if b is None else result + b.reshape(-1, *[1] * rank),)


def corrected(opset: int) -> list[type[OpRun]]:
    """What to use in place of the evaluator's own operators at an opset."""
    found: list[type[OpRun]] = [AveragePool, Conv, ConvTranspose, MaxPool, Erf, Gelu, GlobalMaxPool, LRN, Pad]
    found += [GatherElements, GlobalLpPool, GroupNormalization, LpNormalization, MeanVarianceNormalization]
    found += [AffineGrid, GridSample, Resize, ScatterElements]
    found += [Softmax, LogSoftmax] if opset < 13 else []
    found += [BatchNormalization] if opset < 14 else []
    return found
