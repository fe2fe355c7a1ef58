"""This package runs the ONNX reference evaluator, with replacements for operators that are wrong or slow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from onnx_xcam.verification.reference.corrected import corrected
from onnx_xcam.verification.reference.quantised import quantisation


def evaluate(
    model: onnx.ModelProto,
    feeds: Mapping[str, np.ndarray],
    outputs: Sequence[str] | None = None,
    *,
    rounding: bool = True,
    extremes: tuple[float, float] | None = None,
) -> list[np.ndarray]:
    """Evaluate a model in the types that it states, and return all outputs or those that are named.

    Args:
        model: a model of standard operators.
        feeds: the inputs by name; names that are no inputs are ignored.
        outputs: the names of the outputs, in the order of the result.
        rounding: whether quantisation rounds, as the operators do, or only clips; see `quantised`.
        extremes: the smallest and the largest value by which DynamicQuantizeLinear scales, by default its input's.
    """
    opset = next(o.version for o in model.opset_import if o.domain == "")
    new_ops = [*corrected(opset), *quantisation(rounding=rounding, extremes=extremes)]
    wanted = {i.name for i in model.graph.input}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        results = ReferenceEvaluator(model, new_ops=new_ops).run(
            outputs, {n: a for n, a in feeds.items() if n in wanted}
        )
    return [np.asarray(r) for r in results]
