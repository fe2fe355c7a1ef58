"""The ONNX project's own node tests: the gradient is right in every case whose operator has a rule."""

from __future__ import annotations

from collections import Counter

import onnx
import pytest

from helpers.gradients.checker import check
from helpers.gradients.node_tests import exemption, node_tests, problem
from onnx_xcam.surgery.autodiff.function_bodies import has_body
from onnx_xcam.surgery.rules import RULES

NO_KERNEL = {
    "test_pow_types_float32_uint32",
    "test_pow_types_float32_uint64",
    *(f"test_swiglu{form}{nodes}" for form in ("", "_alpha", "_float16") for nodes in ("", "_expanded")),
    *(f"test_roialign_{form}" for form in ("aligned_false", "aligned_true", "mode_max")),
}
"""Cases that ONNX Runtime has no kernel for; the reference evaluator alone checks them."""


@pytest.mark.parametrize("op", sorted(RULES))
def test_gradient(op):
    check_all(op, node_tests().get(op, []))


FUNCTIONS = sorted(
    schema.name
    for schema in onnx.defs.get_all_schemas()
    if schema.domain == "" and schema.name not in RULES and has_body(schema.name, schema.since_version)
)


@pytest.mark.slow
@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_without_a_rule_of_their_own(op):
    check_all(op, [case for case in node_tests().get(op, []) if "_expanded" not in case.name])


@pytest.mark.slow
@pytest.mark.parametrize("op", FUNCTIONS)
def test_functions_written_out_in_nodes(op):
    check_all(op, [case for case in node_tests().get(op, []) if "_expanded" in case.name])


def check_all(op, cases):
    wrong = {}
    for case in cases:
        if exemption(op, case) is None:
            posed = problem(op, case)
            assert posed.runtime != (case.name in NO_KERNEL), case.name
            try:
                check(posed)
            except AssertionError as error:
                wrong[case.name] = str(error)
    assert not wrong


@pytest.mark.slow
def test_exemptions_are_counted():
    """No case slips away: of the operators with a rule, and of functions without one."""
    assert {op for op in node_tests() if op not in RULES} <= set(FUNCTIONS)
    with_rule = [(op, case) for op in RULES for case in node_tests().get(op, [])]
    others = [(op, case) for op, cases in node_tests().items() if op not in RULES for case in cases]
    counts = Counter(exemption(op, case) for op, case in with_rule)
    assert counts.pop(None) >= 758, "a new rule brings its cases along; none goes"
    assert counts == {"type": 180, "no float": 128, "refused": 9, "random": 6, "no rule": 4}
    counts = Counter(exemption(op, case) for op, case in others)
    assert counts.pop(None) >= 305
    assert counts == {"no rule": 17, "no float": 82, "type": 24, "masked": 17, "float32": 3}
