"""This module reads a tensor as class scores `[N, C]`: it finds the axis of the images and that of the classes."""

from __future__ import annotations

from onnx_xcam.errors import ScoreError
from onnx_xcam.surgery.ir.dims import Dim, Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.targets.axis_evidence import AxisEvidence, is_picked, of_rank_three_or_more
from onnx_xcam.surgery.targets.classification.refusals import UnfitError
from onnx_xcam.surgery.targets.classification.score import Score
from onnx_xcam.surgery.targets.logits import before_rounding, roundings
from onnx_xcam.surgery.targets.probabilities import is_probability
from onnx_xcam.surgery.targets.unit_length import is_normalised


def score_of(
    evidence: AxisEvidence,
    name: str,
    notes: tuple[str, ...],
    activation: str | None,
    *,
    asked: bool = False,
    threshold: float = 0.0,
) -> Score:
    """Return a tensor as class scores.

    Args:
        evidence: what the model's axes stand for.
        name: the tensor; if it is rounded, the scores are the floats before rounding.
        notes: what was assumed so far.
        activation: the final activation that follows the tensor, if there is one.
        asked: whether a user named the tensor, who may know better.
        threshold: what the scores are compared with, where that is known.

    Raises:
        ScoreError: the tensor holds no class scores.
    """
    graph, public_name = evidence.graph, evidence.graph.public_name(name)
    name = before_rounding(graph, name)
    shape = _shape(graph, name)
    batch, classes = _axes(evidence, name, shape)
    if (not asked or len(shape) == 1) and classes is not None and (kind := evidence.places(name, classes)):
        raise UnfitError(name, shape, kind)
    if activation is None and is_normalised(graph, name):
        if not asked:
            advice = f"--score {name} (score=) takes its numbers for classes all the same."
            raise UnfitError(name, shape, "embedding", advice=advice)
        taken = f"'{name}' is divided by its own length, as embeddings are; its numbers are taken for classes."
        notes = (*notes, taken)
    if classes is None:
        described, threshold = _one_number(graph, name, activation, threshold)
        notes = (*notes, described)
    return Score(
        name=name,
        public_name=public_name,
        unclipped=frozenset(node.outputs[0].name for node in roundings(graph, name)),
        shape=shape,
        form="logit" if classes is None else "classes",
        batch=batch,
        classes=classes,
        activation=activation,
        notes=notes,
        threshold=threshold,
    )


def _shape(graph: Graph, name: str) -> Shape:
    """Return the shape of a tensor that may hold scores.

    Raises:
        ScoreError: the tensor has no known shape, no gradient or no axes, or holds boxes that were picked.
    """
    shape = graph.shape(name)
    if shape is None:
        raise ScoreError(f"The shape of '{name}' is unknown.")
    if not graph.is_float(name):
        raise ScoreError(f"'{name}' holds {graph.dtype(name)} values, which have no gradient.")
    if is_picked(graph, name):
        raise ScoreError(
            f"'{name}' is what NonMaxSuppression has picked: boxes, as detectors give, not one score per class."
        )
    if not shape:
        raise ScoreError(f"'{name}' is a single number without an axis of images or classes.")
    return shape


def _axes(evidence: AxisEvidence, name: str, shape: Shape) -> tuple[int | None, int | None]:
    """Return the axis of the images and that of the classes, each None if there is none.

    Raises:
        UnfitError: the tensor has other axes as well, or its first axis is not that of the images.
    """
    wide = [axis for axis, dim in enumerate(shape) if dim != 1]
    if len(shape) == 1:
        if (kind := evidence.places(name, 0)) is not None:
            raise UnfitError(name, shape, kind)
        return (0, None) if wide == [] or _is_batch(evidence.graph, shape[0]) else (None, 0)
    if len([axis for axis in wide if axis]) > 1:
        raise UnfitError(name, shape, of_rank_three_or_more(evidence, name, shape))
    if (kind := evidence.not_images(name)) is not None:
        last = next((axis for axis in wide if axis), None)
        both = last is not None and evidence.places(name, last) is not None
        raise UnfitError(name, shape, "map" if both else kind)
    return 0, next((axis for axis in wide if axis), None)


def _one_number(graph: Graph, name: str, activation: str | None, threshold: float) -> tuple[str, float]:
    """Return the note on a score of one number per image, and the threshold from which on it means class 1."""
    what = "class 1 has it as its score, class 0 its negative; class 1 is the top"
    if activation is None and not threshold and is_probability(graph, name):
        return f"One probability: {what} from 0.5.", 0.5
    if activation is None and threshold:
        return f"One number: {what} from {threshold:g}.", threshold
    one = "logit" if activation else "logit or number"
    return f"One {one}: class 1 has this score, class 0 its negative.", 0.0


def _is_batch(graph: Graph, dim: Dim) -> bool:
    """Tell whether a score's only axis is that of the images: as long as an input's first, or of unknown length."""
    firsts = [shape[0] for name in graph.input_names if not graph.is_constant(name) and (shape := graph.shape(name))]
    return (dim is not None and dim in firsts) or not any(isinstance(length, int) for length in (dim, *firsts))
