"""This module holds the gradient rules of operators that only move, repeat, select or pad elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp
from onnx_xcam.surgery.rules.scatter import add_at, wrapped


@vjp("Reshape", "Flatten")
def reshape(node: NodeView, gy: Value) -> Gradients:
    """y = x in another shape, its elements in the same order;  gx = gy in the shape of x."""
    return gy.reshape_like(node.x)


@vjp("Squeeze", "Unsqueeze", constant_axes=True)
def squeeze(node: NodeView, gy: Value) -> Gradients:
    """y = x with axes of size 1 removed, or inserted;  gx = gy with these inserted, or removed."""
    axes = node.ints(1, "axes")
    if axes is None:
        return node.full(gy).reshape_like(node.x)
    longer = max(node.x.rank, node.y.rank)
    shifted = [axis % longer + 1 for axis in axes]
    return gy.squeeze(shifted) if node.op == "Unsqueeze" else gy.unsqueeze(shifted)


@vjp("Transpose", constant_axes=True)
def transpose(node: NodeView, gy: Value) -> Gradients:
    """y = x with its axes permuted;  gx = gy with its axes permuted back."""
    rank = node.x.rank
    perm = node.attr("perm") or list(range(rank))[::-1]
    return gy.transpose([0, *(1 + int(axis) for axis in np.argsort(perm))])


@vjp("Concat")
def concat(node: NodeView, gy: Value) -> Gradients:
    """y = the inputs one after the other along an axis;  each gradient is the part of gy that its input filled."""
    axis = node.attr("axis", 1) % node.y.rank
    start: shapes.Part = 0
    gradients: list[Value | None] = []
    for index, x in enumerate(node.inputs):
        size = shapes.dim_part(x, axis)
        stop = shapes.add_parts(start, size)
        part = gy.slice([start], [stop], [axis + 1]) if node.needs(index) else None
        gradients.append(part.with_shape((gy.shape[0], *x.shape)) if part else None)
        start = stop
    return gradients


@vjp("Split", every_output=True)
def split(node: NodeView, gys: Sequence[Value | None]) -> Gradients:
    """y_1, y_2, ... = consecutive parts of x;  gx = their gradients one after the other, zeros where there is none."""
    axis = node.attr("axis", 0) % node.x.rank
    first = next(g for g in gys if g is not None)
    parts = []
    for index, g in enumerate(gys):
        missing = [shapes.dim_part(first, 0), *shapes.dim_parts(node.output(index))] if g is None else []
        parts.append(g if g is not None else first.zeros(missing))
    return node.emitter.concat(parts, axis + 1).with_shape((first.shape[0], *node.x.shape))


@vjp("Slice")
def slice_(node: NodeView, gy: Value) -> Gradients:
    """y = x[start:stop:step] on some axes;  gx = gy at the positions that were read, zeros elsewhere."""
    x = node.x
    for axis, places in _sliced_places(node):
        gy = add_at(gy, axis + 1, places, x, axis, distinct=True)
    return gy


def _sliced_places(node: NodeView) -> list[tuple[int, Value]]:
    """Return each axis that a Slice cuts with the positions it reads: the same Slice of 0, 1, 2, ..."""
    x = node.x
    axes, steps = node.ints(3, "axes"), node.ints(4, "steps")
    starts, stops = node.input(1), node.input(2)
    number = starts.shape[0]
    if not isinstance(number, int):
        raise node.unsupported("the number of its axes is known only at run time")
    axes = axes if axes is not None else list(range(number))
    places = []
    for i, axis in enumerate(axes):
        index = axis % x.rank
        step = steps[i] if steps else 1
        positions = x.range_of(index)
        places.append((index, _slice_positions(positions, (starts, stops), i, step, node.y.shape[index])))
    return places


def _slice_positions(positions: Value, bounds: tuple[Value, Value], i: int, step: int, size: dims.Dim) -> Value:
    """Return `positions[start:stop:step]`, int64 1-D, for entry `i` of the starts and stops of a Slice."""
    starts, stops = bounds
    if positions.const is not None and starts.const is not None and stops.const is not None:
        first, last = int(starts.const.reshape(-1)[i]), int(stops.const.reshape(-1)[i])
        count = len(positions.const)
        clamped = slice(first, None if step < 0 and last < -count else last, step)
        return positions.emitter.constant(positions.const[clamped])
    emitter = positions.emitter
    axis, by = emitter.constant(np.array([0], np.int64)), emitter.constant(np.array([step], np.int64))
    first_last = [v.cast(np.int64).slice([i], [i + 1], [0]) for v in bounds]
    return emitter.one("Slice", [positions, *first_last, axis, by], np.int64, (size,))


@vjp("Gather")
def gather(node: NodeView, gy: Value) -> Gradients:
    """y = x[..., indices, ...] on one axis;  gx = zeros with gy added at the indices."""
    x, indices = node.x, node.input(1)
    axis = node.attr("axis", 0) % x.rank
    size = x.shape[axis]
    if indices.const is not None and isinstance(size, int):
        flat = node.constant(indices.const.reshape(-1) % size, np.int64)
    else:
        flat = wrapped(indices.cast(np.int64).reshape([-1], (dims.known_size(indices.shape),)), x, axis)
    after = shapes.dim_parts(x, axis + 1)
    before = shapes.dim_parts(gy, 0, axis + 1)
    count: shapes.Part = flat.shape[0] if isinstance(flat.shape[0], int) else -1
    flattened = gy.reshape([*before, count, *after], (*gy.shape[: axis + 1], flat.shape[0], *x.shape[axis + 1 :]))
    return add_at(flattened, axis + 1, flat, x, axis)


@vjp("Expand", broadcast=True)
def expand(node: NodeView, gy: Value) -> Gradients:
    """y = x repeated along axes of size 1;  gx = gy summed along these axes, which the engine does."""
    return gy


@vjp("Tile")
def tile(node: NodeView, gy: Value) -> Gradients:
    """y = copies of x side by side;  gx = gy summed over the copies."""
    x = node.x
    repeats = node.const(1)
    parts: list[shapes.Part] = [shapes.dim_part(gy, 0)]
    shape: list[dims.Dim] = [gy.shape[0]]
    for axis in range(x.rank):
        copies = int(repeats[axis]) if repeats is not None else node.input(1).slice([axis], [axis + 1], [0])
        parts += [copies, shapes.dim_part(x, axis)]
        shape += [copies if isinstance(copies, int) else None, x.shape[axis]]
    copied = gy.reshape(parts, tuple(shape))
    return copied.sum([1 + 2 * axis for axis in range(x.rank)], keepdims=False)


@vjp("Pad")
def pad(node: NodeView, gy: Value) -> Gradients:
    """y = x with a border;  gx = gy without the border, plus the border's gy where the border repeats elements of x."""
    x = node.x
    axes = node.ints(3, "axes") if node.has_input(3) else list(range(x.rank))
    assert axes is not None
    mode = node.attr("mode", "constant")
    pads = node.const(1)
    for i, axis in enumerate(axes):
        index = axis % x.rank
        low, high = _pads_of(node, pads, i, len(axes))
        if isinstance(low, int) and isinstance(high, int) and low == high == 0:
            continue
        if mode == "constant":
            gy = gy.pad([-low], [-high], [index + 1])
            gy = gy.with_shape((*gy.shape[: index + 1], x.shape[index], *gy.shape[index + 2 :]))
        else:
            gy = add_at(gy, index + 1, _padded_places(x, index, low, high, mode), x, index)
    return gy


def _pads_of(node: NodeView, pads: np.ndarray | None, i: int, count: int) -> tuple[shapes.Part, shapes.Part]:
    """Return the padding before and behind the i-th of `count` padded axes; negative where elements are cut off."""
    if pads is not None:
        return int(pads[i]), int(pads[i + count])
    value = node.input(1)
    return value.slice([i], [i + 1], [0]), value.slice([i + count], [i + count + 1], [0])


def _padded_places(x: Value, axis: int, low: shapes.Part, high: shapes.Part, mode: str) -> Value:
    """Return for each position of a padded axis the position of x that it copies: 0, 1, 2, ... padded the same way."""
    positions = x.range_of(axis)
    if positions.const is not None and isinstance(low, int) and isinstance(high, int):
        cut = positions.const[max(-low, 0) : len(positions.const) - max(-high, 0)]
        padded = np.pad(cut, (max(low, 0), max(high, 0)), mode=mode)  # type: ignore[call-overload]
        return x.emitter.constant(padded)
    pads = shapes.shape_value(x, [low, high])
    floats = positions.cast(np.float32)
    return x.emitter.one("Pad", [floats, pads], np.float32, (None,), mode=mode).cast(np.int64)


@vjp("DepthToSpace")
def depth_to_space(node: NodeView, gy: Value) -> Gradients:
    """y = x with every b² channels moved into a block of b x b pixels;  gx = gy with the blocks moved back.

    The order of the channels is (block row, block column, channel), or in mode CRD (channel, block row, block column).
    """
    x, b = node.x, node.attr("blocksize")
    channels = x.shape[1]
    assert isinstance(channels, int)
    lead, c = shapes.dim_parts(gy, 0, 2), channels // (b * b)
    height, width = shapes.dim_parts(x, 2)
    blocks = gy.reshape([*lead, c, height, b, width, b], (*gy.shape[:2], c, x.shape[2], b, x.shape[3], b))
    channels_first = node.attr("mode", "DCR") == "CRD"
    return blocks.transpose([0, 1, 2, 4, 6, 3, 5] if channels_first else [0, 1, 4, 6, 2, 3, 5]).reshape_like(x)


@vjp("SpaceToDepth")
def space_to_depth(node: NodeView, gy: Value) -> Gradients:
    """y = x with every block of b x b pixels moved into b² channels;  gx = gy with the channels moved back.

    The order of the channels is (block row, block column, channel), or in mode CRD (channel, block row, block column).
    """
    x, y, b = node.x, node.y, node.attr("blocksize")
    channels = x.shape[1]
    assert isinstance(channels, int)
    lead, small = shapes.dim_parts(gy, 0, 2), shapes.dim_parts(y, 2)
    channels_first = node.attr("mode", "DCR") == "CRD"
    order = [channels, b, b] if channels_first else [b, b, channels]
    blocks = gy.reshape([*lead, *order, *small], (*gy.shape[:2], *order, *y.shape[2:]))
    return blocks.transpose([0, 1, 2, 5, 3, 6, 4] if channels_first else [0, 1, 4, 5, 2, 6, 3]).reshape_like(x)
