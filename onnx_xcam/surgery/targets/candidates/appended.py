"""This module adds the nodes to a model that compute its table of candidates in the one form in which it is explained.

| tensor | shape | what it holds |
|---|---|---|
| `xcam/scores` | `[N,Q,C]` float32 | the scores that are differentiated: logits, before any sigmoid or softmax |
| `xcam/probabilities` | `[N,Q,C]` float32 | what the model itself tells of each candidate and class |
| `xcam/boxes` | `[N,Q,4]` float32 | x1, y1, x2, y2 in pixels of the model's input; only where boxes are known |
| `xcam/ranks` | `[N,Q]` float32 | the probability of each candidate that is kept as an object, -1 of all others |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx

from onnx_xcam.surgery.autodiff.vjp_model import new_emitter
from onnx_xcam.surgery.builder.emitter import Emitter
from onnx_xcam.surgery.builder.export import export
from onnx_xcam.surgery.builder.values import Value
from onnx_xcam.surgery.ir.dims import Shape
from onnx_xcam.surgery.ir.graph import Graph
from onnx_xcam.surgery.ir.protos import IR_VERSION

SCORES = "xcam/scores"
PROBABILITIES = "xcam/probabilities"
BOXES = "xcam/boxes"
RANKS = "xcam/ranks"


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns are what the outputs of a model were read as, for all of its candidates.

    Attributes:
        scores: float32 `[N, Q, C]`, the scores before any sigmoid or softmax; or, where nothing before these could be
            found, the probabilities themselves.
        probabilities: float32 `[N, Q, C]`.
        boxes: float32 `[N, Q, 4]`, x1, y1, x2, y2 in pixels of the model's input; None where boxes are not known.
        are_probabilities: whether the scores are the probabilities themselves.
    """

    scores: Value
    probabilities: Value
    boxes: Value | None = None
    are_probabilities: bool = False


@dataclass(frozen=True)
class Added:
    """An Added holds the nodes that compute the table of a model.

    Attributes:
        message: the nodes, serialised as a model to be appended.
        shape: the static shape of the scores, `[N, Q, C]`.
        has_boxes: whether boxes are known.
        are_probabilities: whether the scores are the probabilities themselves.
    """

    message: bytes
    shape: Shape
    has_boxes: bool
    are_probabilities: bool


def added(graph: Graph, read: Callable[[Graph, Emitter], Columns], rank: Callable[[Columns], Value]) -> Added:
    """Return the nodes that compute the table.

    Args:
        graph: the model.
        read: emits the columns.
        rank: emits the rank of each candidate `[N, Q]`: its probability if it is kept as an object, else -1.

    Raises:
        ScoreError: the outputs cannot be read so.
    """
    emitter = new_emitter(graph)
    columns = read(graph, emitter)
    tensors = {SCORES: columns.scores, PROBABILITIES: columns.probabilities, RANKS: rank(columns)}
    if columns.boxes is not None:
        tensors[BOXES] = columns.boxes
    for name, value in tensors.items():
        emitter.named(value, name)
    nodes = export(emitter, list(tensors), IR_VERSION)
    message = onnx.ModelProto(graph=onnx.GraphProto(node=nodes.node, initializer=nodes.initializer))
    shape = columns.scores.shape
    return Added(message.SerializeToString(), shape, columns.boxes is not None, columns.are_probabilities)
