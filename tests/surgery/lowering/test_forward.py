"""Each operator of ONNX Runtime's own computes what the standard operators do that take its place."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from helpers.lowering.formulas import FORMULAS
from helpers.lowering.single import CASES, Case
from helpers.models import session
from onnx_xcam.surgery.lowering import LOWERINGS, lowered

FORMS = [
    pytest.param(case, opset, id=f"{case.name} opset {opset}", marks=case.too_new)
    for case in CASES
    for opset in case.opsets
]


@pytest.mark.parametrize(("case", "opset"), FORMS)
def test_the_standard_nodes_compute_the_same(case: Case, opset: int):
    model = case.model(opset)
    standard = lowered(model).model
    assert not [node.op_type for node in standard.graph.node if node.domain]
    onnx.shape_inference.infer_shapes(standard, check_type=True, strict_mode=True)
    found = session(standard).run(None, case.feeds())
    wanted = _expected(case, model)
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def _expected(case: Case, model: onnx.ModelProto) -> list[np.ndarray]:
    """What ONNX Runtime computes; where its CPU has no kernel, what the documentation says."""
    try:
        result: list[np.ndarray] = session(model).run(None, case.feeds())
    except (ort.capi.onnxruntime_pybind11_state.NotImplemented, ort.capi.onnxruntime_pybind11_state.Fail):
        assert case.op in FORMULAS, f"{case.name} is run by nothing"
    except ort.capi.onnxruntime_pybind11_state.RuntimeException as error:
        assert "packed" in str(error).lower(), error
    else:
        return result
    arrays = [array for array in case.arrays() if array is not None]
    return FORMULAS[case.op](arrays, case.attributes)[: len(model.graph.output)]


@pytest.mark.parametrize("case", [case for case in CASES if case.op != "BitmaskDropout"], ids=lambda case: case.name)
def test_what_is_compared_notices_a_difference(case: Case):
    """A lowering that were off by a thousandth would be found: no case is all zeros, or saturated."""
    values = session(lowered(case.model(case.opsets[-1])).model).run(None, case.feeds())
    for value in values:
        off = np.abs(value * 1e-3)
        assert (off > 2e-5 * np.abs(value) + 2e-6).mean() > 0.1


def test_every_float_lowering_has_a_case():
    from onnx_xcam.surgery.lowering import activations, aliases, attention, fused, norms

    modules = {module.__name__ for module in (activations, aliases, attention, fused, norms)}
    ours = {key for key, function in LOWERINGS.items() if function.__module__ in modules}
    tested = {(case.domain, case.op) for case in CASES}
    assert ours - tested <= {("com.microsoft", op) for op in _ELSEWHERE}


_ELSEWHERE = {"QAttention", "Range", "SimplifiedLayerNormalization"}
"""QAttention has a test of its own; the others are another name of, or as simple as, what has cases."""
