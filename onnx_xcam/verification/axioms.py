"""This module checks a layer's map against its formula and conservation, and its gradient against the score."""

from __future__ import annotations

import numpy as np

from onnx_xcam import contract
from onnx_xcam.cams.contributions import map_of
from onnx_xcam.cams.layout import lined_up
from onnx_xcam.cams.methods import emitted_method
from onnx_xcam.cams.numpy_arrays import NumpyArrays
from onnx_xcam.surgery.ir.op_traits import traits
from onnx_xcam.surgery.submodels.behind_layer import behind_layer
from onnx_xcam.surgery.submodels.node_model import node_model
from onnx_xcam.verification.layer import LayerCheck
from onnx_xcam.verification.observed import EVALUATOR_ERRORS, Observed
from onnx_xcam.verification.slopes import HALF_TOLERANCE, TOLERANCE, Slope, of_first_image, slope_of


def check_layer(seen: Observed, index: int) -> LayerCheck:
    """Check the layer with this index among those that the instrumented model explains."""
    layer = seen.metadata.layers[index]
    a = seen.after[contract.output_name("activations", index)].astype(np.float64)
    g = seen.after[contract.output_name("gradients", index)].astype(np.float64)
    off, conservation = _map_errors(seen, index, a, g)
    slope = _slope(seen, index, g)
    if not isinstance(slope, Slope):
        why = slope or "the model is quantised, so its score changes by steps"
        return LayerCheck(layer, off, conservation, None, not_compared=why)
    without = [
        f"{node.op} '{node.name or node.outputs[0].name}'"
        for node in behind_layer(seen.graph, seen.layers[index], seen.score.name).nodes
        if traits(node).steps
    ]
    difference = (slope.says, slope.does)
    return LayerCheck(layer, off, conservation, difference, slope.error, slope.passed, slope.large_step, without)


def _map_errors(seen: Observed, index: int, a: np.ndarray, g: np.ndarray) -> tuple[float, float | None]:
    """Return the relative errors of the emitted map, by the method's formula on A and G, and of its sum, by sum(G A).

    The second error is None for a method that does not promise conservation.
    """
    method = emitted_method(seen.metadata.method)
    cam = seen.after[contract.output_name("map", index)]
    lined, slopes = lined_up(a, g, seen.metadata.layout(index), seen.metadata.grid(index))
    xp, formula = NumpyArrays(), method.formula
    assert formula is not None  # every emitted method has one
    raw = map_of(xp, formula(xp, lined, slopes, non_negative=False))
    off = float(np.abs(cam - np.maximum(raw, 0).reshape(cam.shape)).max() / (np.abs(raw).max() or 1.0))
    if not method.conserves:
        return off, None
    share = slopes * lined[:, None]
    gap = np.abs(raw.sum(-1) - share.sum((2, 3))) / np.maximum(np.abs(share).sum((2, 3)), 1e-300)
    return off, float(gap.max())


def _slope(seen: Observed, index: int, gradient: np.ndarray) -> Slope | str | None:
    """Compare how the score of the first image's first class changes with the layer to what the gradient says.

    Returns:
        The comparison; None for a quantised model, because its score changes by steps; the reason as text where the
        reference evaluator cannot run the part behind the layer.
    """
    from onnx_xcam.verification.reference import evaluate  # noqa: PLC0415  slow to import

    graph, layer, score = seen.graph, seen.layers[index], seen.score.name
    if graph.quantised:
        return None
    images = seen.metadata.layout(index).find("N")
    answers, class_id = len(seen.after[contract.CLASSES]), int(seen.after[contract.CLASSES][0, 0])
    behind = node_model(graph, behind_layer(graph, layer, score).nodes, seen.values, [layer], seen.source)
    values = seen.values[layer].astype(np.float64)

    def scored(at: np.ndarray) -> float:
        return float(seen.score.table(evaluate(behind, {layer: at}, [score])[0], answers)[0, class_id])

    first = of_first_image(np.moveaxis(values, images, 0)[0], images, values.shape)
    half = any(graph.dtype(name) == np.float16 for name in graph.producer)
    # Activations that are multiplied with weights of few bits are rounded to 8 bits by ONNX Runtime.
    rough = half or any(traits(node).dequantises for node in graph.nodes)
    try:
        whole = of_first_image(gradient[0, 0], images, values.shape)
        return slope_of(scored, values, whole, first, seen.rng, tolerance=HALF_TOLERANCE if rough else TOLERANCE)
    except EVALUATOR_ERRORS as problem:
        return f"the reference evaluator cannot run it: {str(problem)[:200]}"
