"""This module checks maps against their formula and conservation, and the gradients of layers against the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_xcam import contract
from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.layout import lined_up
from onnx_xcam.cams.methods import emitted_method
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.submodels.node_model import node_model
from onnx_xcam.verification.layer import LayerCheck
from onnx_xcam.verification.observed import EVALUATOR_ERRORS, Observed
from onnx_xcam.verification.slopes import HALF_TOLERANCE, TOLERANCE, Slope, of_first_image, slope_of

_FLAT = 1e-12
"""A score that changes by less, where its gradient is 0 in float32, is one of a probability of 1: log(p) is 0."""


def check_maps(seen: Observed) -> list[LayerCheck]:
    """Check each map of the instrumented model: that of each layer, or the one that the layers of a cut add up to."""
    indices = range(len(seen.metadata.layers))
    return [_check(seen, indices)] if seen.is_cut else [_check(seen, [index]) for index in indices]


def _check(seen: Observed, members: Sequence[int]) -> LayerCheck:
    """Check the map of the layers with these indices."""
    named = "' + '".join(dict.fromkeys(seen.metadata.layers[index] for index in members))
    if seen.has_no_object:
        nothing = "there is no object in this picture; give one in which the model finds something"
        return LayerCheck(named, 0.0, None, None, not_compared=nothing)
    recorded = [_Recorded(seen, index) for index in members]
    off, conservation = _map_errors(seen, recorded)
    slope = _slope(seen, recorded)
    if not isinstance(slope, Slope):
        why = slope or "the model is quantised, so its score changes by steps"
        return LayerCheck(named, off, conservation, None, not_compared=why)
    without = [
        f"{node.op} '{node.name or node.outputs[0].name}'"
        for node in seen.behind([one.name for one in recorded])
        if traits(node).steps
    ]
    difference = (slope.says, slope.does)
    return LayerCheck(named, off, conservation, difference, slope.error, slope.passed, slope.large_step, without)


class _Recorded:
    """A _Recorded holds what an instrumented model gave for one layer.

    Attributes:
        index: the layer's index in the metadata.
        name: the tensor with the layer's floats.
        a, g: activations `[N, ...]` and gradients `[N, K, ...]`, float64.
    """

    def __init__(self, seen: Observed, index: int) -> None:
        self.index, self.name = index, seen.layers[index]
        self.a = seen.after[contract.output_name("activations", index)].astype(np.float64)
        self.g = seen.after[contract.output_name("gradients", index)].astype(np.float64)
        self.layout, self._grid = seen.metadata.layout(index), seen.metadata.grid(index)

    def lined_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Return activations `[N, C, S]` and gradients `[N, K, C, S]` at the places of the map."""
        return lined_up(self.a, self.g, self.layout, self._grid)

    def space(self, of_map: tuple[int, ...]) -> tuple[int, ...]:
        """Return height and width of the layer; those of the map where only a run tells the size of its grid."""
        if self._grid is None:
            at = contract.images_first(self.layout).find("H")
            return self.a.shape[at : at + 2]
        height, width = self._grid.height, self._grid.width
        return of_map if height is None or width is None else (height, width)


def _map_errors(seen: Observed, recorded: Sequence[_Recorded]) -> tuple[float, float | None]:
    """Return the relative errors of the emitted map, by the method's formula on A and G, and of its sum, by sum(G A).

    The map of several layers is the sum of theirs, resized to its size. The second error is None for a method that does
    not promise conservation.
    """
    method = emitted_method(seen.metadata.method)
    cam = seen.after[contract.output_name("map", 0 if seen.is_cut else recorded[0].index)]
    xp, formula, size = NumpyArrays(), method.formula, cam.shape[2:]
    assert formula is not None  # every emitted method has one
    total, sums, shares, sizes = np.zeros(cam.shape), 0.0, 0.0, 0.0
    for layer in recorded:
        lined, slopes = layer.lined_up()
        raw = map_of(xp, formula(xp, lined, slopes, non_negative=False))
        total += xp.resize_linear(raw.reshape(*raw.shape[:2], *layer.space(size)), size)
        share = slopes * lined[:, None]
        sums, shares, sizes = sums + raw.sum(-1), shares + share.sum((2, 3)), sizes + np.abs(share).sum((2, 3))
    if seen.metadata.window is not None:
        total = xp.windowed(total, seen.metadata.window)
    off = float(np.abs(cam - np.maximum(total, 0)).max() / (np.abs(total).max() or 1.0))
    if not method.conserves:
        return off, None
    return off, float((np.abs(sums - shares) / np.maximum(sizes, 1e-300)).max())


def _slope(seen: Observed, recorded: Sequence[_Recorded]) -> Slope | str | None:
    """Compare how the score of the first image's first answer changes with the layers to what the gradient says.

    The layers are moved together, each as if no other were made of it.

    Returns:
        The comparison; None for a quantised model, because its score changes by steps; the reason as text where the
        reference evaluator cannot run the part behind the layers.
    """
    from onnx_xcam.verification.reference import evaluate  # noqa: PLC0415  slow to import

    graph, score = seen.graph, seen.score.name
    if graph.quantised:
        return None
    layers = list({one.name: one for one in recorded}.values())  # several grids of tokens share one tensor
    names = [one.name for one in layers]
    images, cell = len(seen.after[contract.CLASSES]), seen.score.cell(seen.after)
    behind = node_model(graph, seen.behind(names), seen.values, names, seen.source)
    values = [seen.values[name].astype(np.float64) for name in names]

    def scored(at: np.ndarray) -> float:
        parts = np.split(at, np.cumsum([value.size for value in values])[:-1])
        fed = {name: part.reshape(value.shape) for name, part, value in zip(names, parts, values, strict=True)}
        return float(seen.score.table(evaluate(behind, fed, [score])[0], images)[0, cell])

    def of_first(layer: _Recorded, value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        return of_first_image(value, layer.layout.find("N"), shape).reshape(-1)

    pairs = list(zip(layers, values, strict=True))
    whole = np.concatenate([of_first(layer, layer.g[0, 0], value.shape) for layer, value in pairs])
    first = np.concatenate(
        [of_first(layer, np.moveaxis(value, layer.layout.find("N"), 0)[0], value.shape) for layer, value in pairs]
    )
    flat = np.concatenate([value.reshape(-1) for value in values])
    half = any(graph.dtype(name) == np.float16 for name in graph.producer)
    # Activations that are multiplied with weights of few bits are rounded to 8 bits by ONNX Runtime.
    rough = half or any(traits(node).dequantises for node in graph.nodes)
    try:
        slope = slope_of(scored, flat, whole, first, seen.rng, tolerance=HALF_TOLERANCE if rough else TOLERANCE)
    except EVALUATOR_ERRORS as problem:
        return f"the reference evaluator cannot run it: {str(problem)[:200]}"
    if not whole.any() and abs(slope.does) < _FLAT:
        return "the score is at the end of its range and does not change here; give a picture of your own"
    return slope
