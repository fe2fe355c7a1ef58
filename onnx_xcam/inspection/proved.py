"""This module hands on what a model's graph proves of its pictures and classes, as a statement like those of files."""

from __future__ import annotations

from onnx_xcam.producers.graph import graph_statement
from onnx_xcam.producers.statement import Statement
from onnx_xcam.surgery.targets.analysis import Analysis
from onnx_xcam.surgery.targets.class_names import class_names


def proved(analysis: Analysis, picture: str, score: str | None = None) -> tuple[Statement, ...]:
    """Return what a graph proves: one statement, or none.

    Args:
        analysis: the analysis of a model, plain or instrumented.
        picture: the name of the picture's input.
        score: the score's tensor, for an instrumented model; None takes that of the analysis.

    Raises:
        ModelError, ScoreError: as `Analysis.graph` and `Analysis.target`.
    """
    values = analysis.input_values(picture)
    names = analysis.class_names if score is None else class_names(analysis.graph, score)
    limits = None if values is None else (values.low, values.high)
    statement = graph_statement(limits, None if values is None else values.order, names)
    return () if statement is None else (statement,)
