"""This module holds the rules of operators, such as convolution, that read four axes as N, C, height and width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_graphsurgeon as gs

from onnx_xcam.surgery.axes.axes import (
    REGIONS,
    Axes,
    Axis,
    at_of,
    by_of,
    fresh,
    is_adrift,
    is_unknown,
    lost,
    resized,
    role_of,
)
from onnx_xcam.surgery.axes.effects import ended, kept
from onnx_xcam.surgery.axes.known_axes import KnownAxes, label, placed
from onnx_xcam.surgery.axes.places import MOST, At, at_indices, centred
from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.op_traits import traits


def image_axes(p: KnownAxes, node: gs.Node, shape: Shape) -> Axes | None:
    """Return the axes of an operator's input as it reads them; unknown axes become known from here on."""
    axes = p.axes(node, 0)
    if len(shape) != 4 or (axes is not None and len(axes) != 4):
        return None
    if axes is None:
        return tuple(fresh(role, None) for role in "NCHW")
    dims = p.dims(node, 0)
    if all(is_unknown(axis) for axis in axes):
        axes = placed("NCHW", node.inputs[0].name, dims)
        p.by_name[node.inputs[0].name] = axes
    return tuple(fresh(r, d) if is_unknown(a) else a for r, a, d in zip("NCHW", axes, dims, strict=True))


def images(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of an operator that turns pixels into blocks of pixels, or blocks into pixels."""
    if len(shape) != 4:
        return kept(p, node, index, shape)
    axes = image_axes(p, node, shape)
    out = node.outputs[index].name
    if axes is None:
        return placed("NCHW", out, shape)
    space = [
        _again(axis, resized(axis, dim, label(node)), role, dim, (out, at))
        for at, role, axis, dim in zip((2, 3), "HW", axes[2:], shape[2:], strict=True)
    ]
    return (*placed("NC", out, shape[:2]), *space)


def _again(before: Axis, after: Axis, role: str, dim: Dim, place: tuple[str, int]) -> Axis:
    """Return height or width at another resolution; an axis that is lost, or is the other of the two, stays so."""
    if is_adrift(before):
        return after
    lead = _lead(before)
    return fresh(lead or role, dim, place, at=at_of(after) if lead else None, by=by_of(after))


def per_pixel(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of an operator that works channel by channel, with the channels on axis 1."""
    return image_axes(p, node, shape) or kept(p, node, index, shape)


def windowed(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of a convolution or pool, which reads N, C, H, W; no other known axis becomes H or W."""
    axes = image_axes(p, node, shape)
    if axes is None:
        return kept(p, node, index, shape)
    n, c, *space = axes
    channels = fresh("C", shape[1]) if traits(node).weighted or role_of(c) == "C" else c
    if _is_pointwise(p, node):
        return (n, channels, *space)
    return (n, channels, *(_over_windows(p, node, at, axis, shape[at + 2]) for at, axis in enumerate(space)))


def _over_windows(p: KnownAxes, node: gs.Node, at: int, axis: Axis, dim: Dim) -> Axis:
    """Return an axis of space after windows that slide along it."""
    lead = _lead(axis)
    if lead is None or is_adrift(axis):
        return lost(dim, by_of(axis) or label(node))
    return fresh(lead, dim, (node.outputs[0].name, at + 2), at=_behind_windows(p, node, at, axis, dim), by=by_of(axis))


def _lead(axis: Axis) -> str | None:
    """Return H or W if neighbours on the axis are neighbours in height or width, at any resolution; else None."""
    first = next((atom for atom in axis if atom.size != 1), axis[0] if axis else None)
    return first.role if first is not None and first.role in ("H", "W") and first.outermost else None


def _behind_windows(p: KnownAxes, node: gs.Node, at: int, axis: Axis, dim: Dim) -> At | bool:
    """Return where the centres of windows lie on an axis that is not spread evenly; None for an even one."""
    places, size = at_of(axis), p.dims(node, 0)[at + 2]
    if places is None:
        return None
    if not isinstance(size, int) or not isinstance(dim, int) or len(places) != size or dim > MOST:
        return False
    return at_indices(places, size, centred(_window(p, node, at, size, dim), dim))


def _window(p: KnownAxes, node: gs.Node, at: int, size: int, dim: int) -> Sequence[int]:
    """Return stride, padding before, kernel and dilation along an axis of space."""
    stride, dilation = (int((node.attrs.get(name) or [1, 1])[at]) for name in ("strides", "dilations"))
    stated: Any = node.attrs.get("kernel_shape") or (p.dims(node, 1)[2:] if traits(node).weighted else (size, size))
    kernel = int(stated[at]) if isinstance(stated[at], int) else 1
    if str(node.attrs.get("auto_pad", "NOTSET")).startswith("SAME"):
        missing = max(0, (dim - 1) * stride + (kernel - 1) * dilation + 1 - size)
        before = missing // 2 if node.attrs["auto_pad"] == "SAME_UPPER" else -(-missing // 2)
    else:
        before = int((node.attrs.get("pads") or [0, 0, 0, 0])[at])
    return stride, before, kernel, dilation


def _is_pointwise(p: KnownAxes, node: gs.Node) -> bool:
    """Tell whether a node's windows are single positions, with stride 1 and no padding."""
    kernel: Sequence[Dim] = node.attrs.get("kernel_shape") or (
        p.dims(node, 1)[2:] if traits(node).weighted and len(node.inputs) > 1 else [None]
    )
    numbers = [*kernel, *node.attrs.get("strides", [1])]
    return all(number == 1 for number in numbers) and not any(node.attrs.get("pads", []))


def sampled(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of an operator that reads at a grid of places, which may be anywhere: only N and C stay."""
    axes = image_axes(p, node, shape)
    if axes is None:
        return ended(p, node, index, shape)
    return (*axes[:2], *(lost(dim, label(node)) for dim in shape[2:]))


def regions(p: KnownAxes, node: gs.Node, index: int, shape: Shape) -> Axes | None:
    """Return the axes of an operator that pools regions of images: regions, which are no images, channels, and bins."""
    axes = image_axes(p, node, shape)
    if axes is None:
        return ended(p, node, index, shape)
    return (fresh(REGIONS, shape[0]), axes[1], *(lost(dim, label(node)) for dim in shape[2:]))
