"""This module holds corrected operators that move elements by indices, for the ONNX reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx.reference.op_run import OpRun


def _places(indices: np.ndarray, axis: int) -> tuple[np.ndarray, ...]:
    """Return an index array for each axis, where `indices` stands for the positions along one axis."""
    places: list[np.ndarray] = list(np.indices(indices.shape))
    places[axis] = indices
    return tuple(places)


class GatherElements(OpRun):
    """GatherElements takes fewer indices than elements along the other axes, which the evaluator's own cannot."""

    op_domain = ""

    def _run(self, x: Any, indices: Any, axis: Any = None) -> tuple[Any, ...]:
        return (x[_places(indices, axis or 0)],)


class ScatterElements(OpRun):
    """ScatterElements takes fewer indices than elements along the other axes, which the evaluator's own cannot."""

    op_domain = ""

    def _run(self, x: Any, indices: Any, updates: Any, axis: Any = None, reduction: Any = None) -> tuple[Any, ...]:
        y, places = x.copy(), _places(indices, axis or 0)
        reduced = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}.get(reduction)
        if reduced is None:
            y[places] = updates
        else:
            reduced.at(y, places, updates)
        return (y,)


class Pad(OpRun):
    """Pad takes negative amounts, which the evaluator's own does not know."""

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
