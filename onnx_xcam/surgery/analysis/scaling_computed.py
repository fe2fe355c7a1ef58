"""This module tells how the values are scaled that arithmetic with constants, a Clip, a Cast or a quantiser makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

import numpy as np
import onnx_graphsurgeon as gs

from onnx_xcam.surgery.analysis.constant_folding import evaluate
from onnx_xcam.surgery.analysis.scaled import MOST_CHANNELS, Scaled
from onnx_xcam.surgery.ir.dims import Dim
from onnx_xcam.surgery.ir.graph import FLOATS, Graph
from onnx_xcam.surgery.ir.op_traits import traits

_PROBES = np.array([-255.0, -1.0, 0.0, 1.0, 255.0])
"""The values of x at which an operator's result must lie on a line."""
_SLACK = 2e-3
"""The tolerance of that, relative to the largest result: float16 keeps three digits."""


def computed(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling behind an operator that works element by element with constants, if it is affine.

    The operator itself is evaluated, at five values of x; no formula of it is needed here.
    """
    names = [str(tensor.name) for tensor in node.inputs if tensor.name]
    numbers = {name: graph.constants[name] for name in names if name in graph.constants}
    name = next(name for name in names if name not in numbers)
    shape, dtype = graph.shape(name), graph.dtype(name)
    if len(numbers) != len(names) - 1 or shape is None or len(shape) < 2 or dtype not in FLOATS:
        return None
    axis = _channel_axis(at, len(shape), list(numbers.values()))
    if axis is None:
        return None
    along = 0 if axis else 1
    form = [1] * len(shape)
    form[axis] = len(at.factor)
    probes = np.stack([(at.factor * x + at.shift).reshape(form) for x in _PROBES], axis=along)
    probes = probes.reshape([len(_PROBES) if place == along else dim for place, dim in enumerate(form)])
    results = evaluate(graph, node, {name: probes.astype(dtype), **numbers})
    return None if results is None else _line(at, axis, along, results[node.outputs[0].name], shape)


def _channel_axis(at: Scaled, rank: int, constants: Sequence[np.ndarray]) -> int | None:
    """Return the one axis along which constants vary: the channels'; None if they vary along another one."""
    axis = at.axis
    for value in constants:
        if value.ndim > rank or value.size > MOST_CHANNELS:
            return None
        for place, dim in enumerate(value.shape, rank - value.ndim):
            if dim == 1 or place == axis:
                continue
            if axis is not None:
                return None
            axis = place  # all channels so far are alike, so the axis that is lost may be this one
    return (1 if rank > 1 else 0) if axis is None else axis


def _line(at: Scaled, axis: int, along: int, result: np.ndarray, shape: Sequence[Dim]) -> Scaled | None:
    """Return the scaling that the results of the probes lie on; None if they lie on no line."""
    if result.ndim != len(shape) or result.size != result.shape[axis] * len(_PROBES):
        return None
    values = np.moveaxis(result.astype(np.float64), along, 0).reshape(len(_PROBES), -1)  # [probes, C]
    factor, shift = (values[-1] - values[0]) / (_PROBES[-1] - _PROBES[0]), values[2]
    off = np.abs(values - (np.outer(_PROBES, factor) + shift)).max()
    if not np.isfinite(values).all() or not factor.all() or off > _SLACK * np.abs(values).max():
        return None
    source = at.source
    if source is not None and len(source) != len(factor):
        source = np.repeat(source, len(factor)) if len(source) == 1 else None
    lost = at.axis is None and len(factor) == 1
    return at.changed(factor, shift, axis=None if lost else axis, source=source)


def of_pixels(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling behind a kernel of one pixel that takes each of its channels from one channel."""
    numbers = [graph.constants.get(tensor.name) for tensor in node.inputs[1:]]
    if at.axis != 1 or any(value is None for value in numbers) or any(node.attrs.get("pads") or ()):
        return None
    weights, *bias = [np.asarray(value, np.float64) for value in numbers]
    groups = int(node.attrs.get("group", 1))
    if any(side != 1 for side in weights.shape[2:]) or weights.shape[1] * groups != len(at.factor):
        return None
    rows = weights.reshape(weights.shape[:2])
    if ((rows != 0).sum(axis=1) != 1).any():
        return None
    column = (rows != 0).argmax(axis=1)
    offset = np.arange(len(rows)) // (len(rows) // groups) * weights.shape[1]
    scale = rows[np.arange(len(rows)), column]
    part = at.picked(column + offset)
    return part.changed(part.factor * scale, part.shift * scale + (bias[0] if bias else 0.0))


def clipped(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling behind a Clip, with the values of x beyond which it cuts off; None if they are not known."""
    bounds = []
    for index, attribute, none in ((1, "min", -inf), (2, "max", inf)):
        given = len(node.inputs) > index and node.inputs[index].name
        value = graph.constants.get(node.inputs[index].name) if given else node.attrs.get(attribute, none)
        if value is None or np.size(value) != 1:
            return None
        bounds.append((float(np.asarray(value).reshape(())) - at.shift) / at.factor)
    low, high = np.minimum(*bounds).max(), np.maximum(*bounds).min()
    return replace(at, limits=(float(np.maximum(at.limits[0], low)), float(np.minimum(at.limits[1], high))))


def cast(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling as it is behind a Cast to floats; None behind one to integers, which rounds."""
    return at if graph.dtype(node.outputs[0].name) in FLOATS else None


def quantised(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling of the integers that a quantiser makes."""
    known = _scale_and_zero(graph, node)
    return None if known is None else replace(at, quantised=known)


def given_back(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling behind a DequantizeLinear that gives back what a quantiser got; None behind anything else."""
    undone = traits(node).dequantises and _scale_and_zero(graph, node) == at.quantised
    return replace(at, quantised=None) if undone else None


def dequantised(graph: Graph, node: gs.Node, at: Scaled) -> Scaled | None:
    """Return the scaling behind a DequantizeLinear that reads the integers of the picture itself."""
    known = _scale_and_zero(graph, node)
    if known is None:
        return None
    scale, zero = known
    return at.changed(at.factor * scale, (at.shift - zero) * scale, calibrated=True)


def _scale_and_zero(graph: Graph, node: gs.Node) -> tuple[float, float] | None:
    """Return scale and zero point of a QuantizeLinear or DequantizeLinear; None unless each is one known number."""
    names = [*(tensor.name for tensor in node.inputs[1:3]), ""][:2]
    scale, zero = (graph.constants.get(name) for name in names)
    if scale is None or scale.size != 1 or (names[1] and (zero is None or zero.size != 1)):
        return None
    number = float(scale.reshape(()).astype(np.float64))
    offset = 0.0 if zero is None else float(zero.reshape(()).astype(np.float64))
    return (number, offset) if np.isfinite(number) and number > 0 else None
