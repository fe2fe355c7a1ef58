"""The ONNX reference evaluator, with its own implementations replaced where they are wrong or too slow to wait for."""

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
    """The model's outputs (all, or those named), computed in the types that it states.

    Args:
        model: any model of standard operators.
        feeds: its inputs by name; others are left aside.
        outputs: names, in the order of the result.
        rounding: whether quantisation rounds, as it does, or only clips; see quantised.py.
        extremes: smallest and largest value by which DynamicQuantizeLinear scales, those of its input by default.
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
