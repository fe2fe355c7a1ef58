"""This module tells what a model's graph alone proves of its pictures and its classes, as plain data."""

from __future__ import annotations

from typing import NamedTuple

import onnx

from onnx_xcam.surgery.analysis.input_values import InputValues, input_values
from onnx_xcam.surgery.analysis.prepare import prepare
from onnx_xcam.surgery.submodels.front import front
from onnx_xcam.surgery.targets.analysis import Analysis
from onnx_xcam.surgery.targets.class_names import class_names

_LOOKS_UP = "ai.onnx.ml"
"""Most operators that look up names are of this domain; the others look them up in a table of strings."""


class Proved(NamedTuple):
    """A Proved holds what a graph proves; each part is None where it proves nothing.

    Attributes:
        values: the values of a black and of a white pixel.
        order: the order of the channels, "RGB" or "BGR".
        labels: the names of the classes by id.
    """

    values: tuple[float, float] | None = None
    order: str | None = None
    labels: tuple[str, ...] | None = None


def proved(analysis: Analysis, picture: str) -> Proved:
    """Return what the graph of a plain model proves of its score and of one of its picture inputs.

    Raises:
        ModelError, ScoreError: as `Analysis.graph` and `Analysis.target`.
    """
    return _proved(analysis.input_values(picture), analysis.class_names)


def proved_by_instrumented(skeleton: onnx.ModelProto, picture: str, score: str) -> Proved:
    """Return what the graph of an instrumented model proves, which no more than its front is analysed for.

    Args:
        skeleton: the model, which may lack its weights.
        picture: the name of the picture's input.
        score: the tensor of the score, as the metadata name it.

    Raises:
        ModelError: the model contradicts itself.
    """
    names = class_names(prepare(skeleton), score) if _may_have_names(skeleton) else None
    return proved_of_picture(skeleton, picture)._replace(labels=names)


def proved_of_picture(skeleton: onnx.ModelProto, picture: str) -> Proved:
    """Return what a graph proves of one of its picture inputs alone.

    Args:
        skeleton: any model, which may lack its weights.
        picture: the name of the picture's input.

    Raises:
        ModelError: the model contradicts itself, or is of an opset that is not analysed as it is.
    """
    return _proved(input_values(prepare(front(skeleton, picture)), picture), None)


def _proved(values: InputValues | None, names: tuple[str, ...] | None) -> Proved:
    """Return what is proved as plain data."""
    return Proved(labels=names) if values is None else Proved((values.low, values.high), values.order, names)


def _may_have_names(skeleton: onnx.ModelProto) -> bool:
    """Tell whether a model has texts, or operators that look them up."""
    graph, string = skeleton.graph, onnx.TensorProto.STRING
    return (
        any(tensor.data_type == string for tensor in graph.initializer)
        or any(node.domain == _LOOKS_UP for node in graph.node)
        or any(one.t.data_type == string for node in graph.node for one in node.attribute if one.HasField("t"))
    )
