"""Resizing. It is linear and works axis by axis, so its gradient is a product with each axis' matrix, transposed.

The matrix of an axis is what the same Resize makes of the identity matrix. That covers every mode, coordinate
transformation and rounding rule, without a formula of our own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnx_xcam.surgery import shapes
from onnx_xcam.surgery.rules.registry import Gradients, NodeView, Value, vjp
from onnx_xcam.surgery.rules.scatter import contract


@vjp("Resize", "Upsample", inputs=1)
def resize(node: NodeView, gy: Value) -> Gradients:
    """y = M_1 M_2 ... x, one matrix for each resized axis;  gx = the transposed matrices applied to gy."""
    x, y = node.x, node.y
    if node.attr("coordinate_transformation_mode") == "tf_crop_and_resize":
        raise node.unsupported("the mode tf_crop_and_resize is not supported")
    for axis in _resized_axes(node):
        shape = (*gy.shape[: axis + 1], x.shape[axis], *gy.shape[axis + 2 :])
        gy = contract(gy, axis + 1, _matrix(node, axis), shape)
    return gy.with_shape((gy.shape[0], *x.shape)) if y.rank == x.rank else gy


def _resized_axes(node: NodeView) -> list[int]:
    x, y = node.x, node.y
    listed = node.attr("axes") or range(x.rank)
    scales = _const_scales(node)
    axes = []
    for position, axis in enumerate(listed):
        if scales is not None and scales[position] == 1:
            continue
        if scales is None and (shapes.same(x.shape[axis], y.shape[axis]) or x.shape[axis] == y.shape[axis] == 1):
            continue
        axes.append(axis % x.rank)
    return axes


def _const_scales(node: NodeView) -> np.ndarray | None:
    index = 1 if node.op == "Upsample" or node.opset < 11 else 2
    if node.op == "Upsample" and node.attr("scales"):
        return np.asarray(node.attr("scales"))
    scales = node.const(index)
    return scales if scales is not None and scales.size else None


def _matrix(node: NodeView, axis: int) -> Value:
    """The matrix `[y size, x size]` of one axis."""
    x = node.x
    columns = x.range_of(axis)
    eye = columns.unsqueeze([1]).equal(columns).cast(np.float32).unsqueeze([0, 1])
    attributes: dict[str, Any] = {k: v for k, v in node.node.attrs.items() if k not in ("axes", "scales")}
    one = node.constant([1, 1], np.float32)
    position = list(node.attr("axes") or range(x.rank)).index(axis)
    shape = (1, 1, node.y.shape[axis], x.shape[axis])
    scale = _scale(node, position)
    unit = node.constant([1], np.float32)
    if scale is not None:
        scales = node.emitter.concat([one, scale, unit], 0)
        inputs: list[Value | None] = [eye, scales] if node.op == "Upsample" else [eye, None, scales]
        if node.op == "Resize" and node.opset < 13:
            inputs[1] = node.constant([], np.float32)
    else:
        sizes = shapes.shape_value(x, [1, 1, shapes.dim_part(node.y, axis), shapes.dim_part(x, axis)])
        attributes.pop("keep_aspect_ratio_policy", None)
        empty = node.constant([], np.float32) if node.opset < 13 else None
        inputs = [eye, empty, empty, sizes]
    result = node.emitter.one(node.op, inputs, np.float32, shape, **attributes)
    return result.squeeze([0, 1]).cast(x.dtype)


def _scale(node: NodeView, position: int) -> Value | None:
    """The scale of one axis, float32 [1], None where sizes are given instead."""
    listed = _const_scales(node)
    if listed is not None:
        return node.constant(listed[position : position + 1], np.float32)
    index = 1 if node.op == "Upsample" else 2
    if node.has_input(index) and node.const(index) is None:
        return node.input(index).slice([position], [position + 1], [0])
    return None
