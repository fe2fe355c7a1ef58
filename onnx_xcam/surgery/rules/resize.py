"""This module holds the gradient rule of Resize, which multiplies gy by the transposed matrix of each resized axis.

Resize is linear and works axis by axis. The matrix of an axis is the result of the same Resize for the identity matrix.
That covers every mode, coordinate transformation and rounding rule without a formula of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnx_xcam.surgery.builder import shapes
from onnx_xcam.surgery.ir import dims
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp
from onnx_xcam.surgery.rules.scatter import contract

CROP = "tf_crop_and_resize"


@dataclass(frozen=True)
class _Parameter:
    """A _Parameter holds the scales or the region of interest: one entry (or a start and an end) per resized axis.

    Attributes:
        value: the input, 1-D.
        const: its numbers where they are known before the run, else None.
    """

    value: Value
    const: np.ndarray | None

    def at(self, position: int) -> Value:
        """Return the entry at a position, float32 `[1]`."""
        if self.const is not None:
            return self.value.emitter.constant(self.const[position : position + 1].astype(np.float32))
        return self.value.slice([position], [position + 1], [0]).cast(np.float32)


@vjp("Resize")
def resize(node: NodeView, gy: Value) -> Gradients:
    """y = M_1 M_2 ... x, one matrix for each resized axis;  gx = the transposed matrices applied to gy."""
    x = node.x
    scales, roi = _parameter(node, 2), _roi(node)
    listed = [axis % x.rank for axis in node.attr("axes") or range(x.rank)]
    common = None if scales else _common_scale(node, listed)
    for position, axis in enumerate(listed):
        ends = (position, position + len(listed))
        if common in (None, 1) and _stays(node, axis, position, scales) and (roi is None or _whole(roi, ends)):
            continue
        if common is not None:
            matrix = _matrix_at_scale(node, axis, common)
        else:
            scale = scales.at(position) if scales else None
            matrix = _matrix(node, axis, scale, [roi.at(end) for end in ends] if roi else None)
        gy = contract(gy, axis + 1, matrix, (*gy.shape[: axis + 1], x.shape[axis], *gy.shape[axis + 2 :]))
    return gy


def _parameter(node: NodeView, index: int) -> _Parameter | None:
    """Return a parameter of a Resize, None where the input is not given or empty."""
    if not node.has_input(index) or node.input(index).shape == (0,):
        return None
    return _Parameter(node.input(index), node.const(index))


def _roi(node: NodeView) -> _Parameter | None:
    """Return the region of interest, None in the coordinate transformations that do not use it."""
    return _parameter(node, 1) if node.attr("coordinate_transformation_mode") == CROP else None


def _stays(node: NodeView, axis: int, position: int, scales: _Parameter | None) -> bool:
    """Tell whether an axis keeps its size, so that nothing is resized there."""
    if scales is not None:
        return scales.const is not None and bool(scales.const[position] == 1)
    return dims.same(node.x.shape[axis], node.y.shape[axis])


def _whole(roi: _Parameter, ends: tuple[int, int]) -> bool:
    """Tell whether the region of interest is known to be all of an axis."""
    return roi.const is not None and [float(roi.const[end]) for end in ends] == [0, 1]


def _common_scale(node: NodeView, axes: list[int]) -> float | None:
    """Return the one scale that a keep_aspect_ratio_policy gives all axes, None where each axis has its own.

    Raises:
        UnsupportedOpError: the policy needs a run, or is combined with attributes that are not supported with it.
    """
    policy = node.attr("keep_aspect_ratio_policy", "stretch")
    coordinates = node.attr("coordinate_transformation_mode", "half_pixel")
    if policy == "stretch" or coordinates in (CROP, "align_corners"):
        return None
    sizes, known = node.const(3), [node.x.shape[axis] for axis in axes]
    if sizes is None or not all(isinstance(size, int) for size in known):
        raise node.unsupported(f"its policy {policy} needs sizes that are known before the run")
    if node.attr("antialias", 0) or node.attr("exclude_outside", 0) or coordinates == "half_pixel_symmetric":
        raise node.unsupported(f"its policy {policy} is not supported together with its other attributes")
    ratios = [int(size) / int(length) for size, length in zip(sizes, known, strict=True)]  # type: ignore[arg-type]
    return min(ratios) if policy == "not_larger" else max(ratios)


def _matrix_at_scale(node: NodeView, axis: int, scale: float) -> Value:
    """Return the matrix `[y size, x size]` of an axis that is resized by an exact scale to a rounded size.

    Resize by a scale always rounds the size down. So the axis is first made longer by repeats of its last element,
    which every mode also assumes beyond the end, and the result is cut to the size of y.
    """
    size, length = node.x.shape[axis], node.y.shape[axis]
    assert isinstance(size, int) and isinstance(length, int)
    shapes.table_size(size + int(1 / scale) + 4)
    longer = np.minimum(np.arange(size + int(1 / scale) + 4), size - 1)
    parts = node.constant([1, 1, scale, 1], np.float32)
    result = _resized_rows(node, node.constant(longer, np.int64), axis, scales=parts)
    return result.slice([0], [length], [0])


def _matrix(node: NodeView, axis: int, scale: Value | None, region: list[Value] | None) -> Value:
    """Return the matrix `[y size, x size]` of one axis; `scale` and the ends of `region` are float32 `[1]`."""
    x, emitter = node.x, node.emitter

    def number(*values: float) -> Value:
        return node.constant(values, np.float32)

    roi = emitter.concat([number(0, 0), region[0], number(0, 1, 1), region[1], number(1)], 0) if region else None
    scales = emitter.concat([number(1, 1), scale, number(1)], 0) if scale else None
    sizes = shapes.shape_value(x, [1, 1, shapes.dim_part(node.y, axis), shapes.dim_part(x, axis)])
    return _resized_rows(node, x.range_of(axis), axis, roi=roi, scales=scales, sizes=None if scales else sizes)


def _resized_rows(
    node: NodeView,
    rows: Value,
    axis: int,
    *,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
) -> Value:
    """Return a matrix, resized along its first axis by the node's own Resize; row i is the unit vector `rows[i]`.

    Args:
        node: the Resize.
        rows: int64 `[n]`, the column of the one in each row.
        axis: the axis of x, as long as the matrix has columns.
        roi, scales, sizes: the inputs of the emitted Resize of `[1, 1, n, x size]`, None where it has none.
    """
    x = node.x
    matrix = rows.unsqueeze([1]).equal(x.range_of(axis)).cast(np.float32).unsqueeze([0, 1])
    left_out = ("axes", "extrapolation_value", "keep_aspect_ratio_policy")
    attributes: dict[str, Any] = {k: v for k, v in node.node.attrs.items() if k not in left_out}
    nothing = node.constant([], np.float32) if node.opset < 13 else None
    inputs = [matrix, roi or nothing, scales or nothing, *([sizes] if sizes else [])]
    shape = (1, 1, node.y.shape[axis] if sizes else None, x.shape[axis])
    return node.emitter.one("Resize", inputs, np.float32, shape, **attributes).squeeze([0, 1]).cast(x.dtype)
